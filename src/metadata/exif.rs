//! The user comment of an EXIF block, where the webui and its kin keep `parameters` in JPEG and WebP.
//!
//! The block is a small TIFF file (Exif 2.32, section 4.6): a list of entries that points to a second list, which has
//! the comment. Offsets are the file's own, so every one is checked.

/// Tag of the second list's place.
const EXIF_LIST: u16 = 0x8769;
/// Tag of the comment, bytes that begin with the name of their character set.
const USER_COMMENT: u16 = 0x9286;
/// Bytes of that name.
const CHARSET_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }
}

/// The comment of an EXIF block; `None` where there is none, or it is damaged or in a character set nobody writes.
pub(super) fn user_comment(block: &[u8]) -> Option<String> {
    // JPEG puts this in front; some writers of WebP do too.
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let order = match block.get(..4)? {
        b"II*\0" => Order::Little,
        b"MM\0*" => Order::Big,
        _ => return None,
    };
    let tiff = Tiff { block, order };
    let first = tiff.offset(4)?;
    let list = tiff.entry(first, EXIF_LIST)?;
    let comment = tiff.entry(tiff.offset(list + 8)?, USER_COMMENT)?;
    let count = tiff.offset(comment + 4)?;
    let start = if count <= 4 {
        comment + 8
    } else {
        tiff.offset(comment + 8)?
    };
    let (charset, text) = block
        .get(start..start.checked_add(count)?)?
        .split_at_checked(CHARSET_BYTES)?;
    let text = match charset {
        b"UNICODE\0" => utf16(text),
        b"ASCII\0\0\0" | b"\0\0\0\0\0\0\0\0" => String::from_utf8_lossy(text).into_owned(),
        _ => return None,
    };
    Some(text.trim_end_matches('\0').to_owned())
}

struct Tiff<'a> {
    block: &'a [u8],
    order: Order,
}

impl Tiff<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.block.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn offset(&self, at: usize) -> Option<usize> {
        usize::try_from(self.order.u32(self.array(at)?)).ok()
    }

    /// Where the entry of `tag` is in the list at `list`: tag, type, count and value in 12 bytes.
    fn entry(&self, list: usize, tag: u16) -> Option<usize> {
        let count = usize::from(self.order.u16(self.array(list)?));
        let first = list.checked_add(2)?;
        (0..count)
            .filter_map(|index| first.checked_add(12 * index))
            .take_while(|&at| at < self.block.len())
            .find(|&at| self.array(at).map(|bytes| self.order.u16(bytes)) == Some(tag))
    }
}

/// Writers disagree about the order of bytes, whatever that of the block is. The settings are Latin letters, whose
/// high bytes are 0, and that tells.
fn utf16(bytes: &[u8]) -> String {
    let (order, bytes) = match bytes {
        [0xFE, 0xFF, rest @ ..] => (Order::Big, rest),
        [0xFF, 0xFE, rest @ ..] => (Order::Little, rest),
        _ => {
            let pairs = bytes.as_chunks::<2>().0;
            let zeros = |place: usize| {
                pairs
                    .iter()
                    .filter(|pair| pair[place] == 0 && pair[1 - place] != 0)
                    .count()
            };
            let order = if zeros(0) >= zeros(1) {
                Order::Big
            } else {
                Order::Little
            };
            (order, bytes)
        }
    };
    let pairs = bytes.as_chunks::<2>().0;
    let units: Vec<u16> = pairs.iter().map(|&pair| order.u16(pair)).collect();
    String::from_utf16_lossy(&units)
}
