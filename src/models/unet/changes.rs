//! What is changed in a UNet on the way of one prediction: FreeU, and self-attention that sees nothing.

use std::fmt;
use std::str::FromStr;

use super::config::{BlockConfig, MidConfig, UNetConfig};
use super::freeu::FreeU;
use crate::error::{Error, Result};

/// What is changed; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Changes {
    /// FreeU's factors.
    pub freeu: Option<FreeU>,
    /// Where each token looks at itself alone instead of the whole picture.
    pub identity: Option<Blocks>,
    /// Whether [`Attended`] is wanted of the bottom.
    pub watch: bool,
}

/// How much attention the positions of the UNet's bottom receive from all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    /// One for each position, row by row; 1 on average.
    pub received: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Blocks of a UNet, as text joined by `+`: `mid`, `down` and `up` for all of a way, `down.1` and `up.0` for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// One bit for each block, the outermost first.
    down: u32,
    mid: bool,
    /// One bit for each block, the innermost first.
    up: u32,
}

/// A block of a UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Down(usize),
    Mid,
    Up(usize),
}

impl Blocks {
    /// The bottom alone.
    pub const MID: Self = Self {
        down: 0,
        mid: true,
        up: 0,
    };

    pub(super) fn contains(self, place: Place) -> bool {
        let holds = |bits: u32, index| {
            bits.checked_shr(index as u32)
                .is_some_and(|bits| bits & 1 == 1)
        };
        match place {
            Place::Down(index) => holds(self.down, index),
            Place::Mid => self.mid,
            Place::Up(index) => holds(self.up, index),
        }
    }

    /// Refuses blocks that the model has not, or that have no self-attention.
    ///
    /// # Errors
    /// `Unsupported`, naming them.
    pub fn check(self, config: &UNetConfig) -> Result<()> {
        let attends = |block: &BlockConfig| {
            block.attention.as_ref().is_some_and(|attention| {
                !attention.only_cross_attention && attention.depths.iter().any(|&depth| depth > 0)
            })
        };
        let bits = |blocks: &[BlockConfig]| {
            let bits = blocks.iter().enumerate().take(32);
            bits.fold(0, |bits, (i, block)| {
                bits | (u32::from(attends(block)) << i)
            })
        };
        let mid = matches!(config.mid, MidConfig::CrossAttention { .. });
        // All of a way means those of its blocks that can be meant.
        let fits = |asked: u32, found: u32| match asked {
            u32::MAX => found != 0,
            asked => asked & !found == 0,
        };
        if fits(self.down, bits(&config.down))
            && fits(self.up, bits(&config.up))
            && (mid || !self.mid)
        {
            return Ok(());
        }
        let found = Self {
            down: bits(&config.down),
            mid,
            up: bits(&config.up),
        };
        Err(Error::unsupported(format!(
            "the blocks asked for are {self}, and this model's unet has self-attention in {found}"
        )))
    }
}

impl FromStr for Blocks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            Error::invalid(format!(
                "the blocks are {text:?}, expected mid, down, up or one block such as up.1, joined by +"
            ))
        };
        let mut blocks = Self {
            mid: false,
            ..Self::MID
        };
        for name in text.split('+').map(str::trim) {
            let (way, index) = name
                .split_once('.')
                .map_or((name, None), |(way, index)| (way, Some(index)));
            let bits = match index {
                None => u32::MAX,
                Some(index) => {
                    let index: u32 = index.parse().map_err(|_| expected())?;
                    1_u32.checked_shl(index).ok_or_else(expected)?
                }
            };
            match (way, index) {
                ("mid", None) => blocks.mid = true,
                ("down", _) => blocks.down |= bits,
                ("up", _) => blocks.up |= bits,
                _ => return Err(expected()),
            }
        }
        Ok(blocks)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |way: &str, bits: u32| match bits {
            u32::MAX => vec![way.to_owned()],
            _ => (0..32)
                .filter(|index| bits >> index & 1 == 1)
                .map(|index| format!("{way}.{index}"))
                .collect(),
        };
        let mut names = of("down", self.down);
        names.extend(self.mid.then(|| "mid".to_owned()));
        names.extend(of("up", self.up));
        match names.as_slice() {
            [] => f.write_str("no block"),
            names => f.write_str(&names.join("+")),
        }
    }
}
