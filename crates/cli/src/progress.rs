//! What a person sees while waiting: bars on a terminal, lines elsewhere if asked for, and warnings.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tintype::{Event, Observer, StepEvent};

use crate::logging::Talk;

/// How often a bar is drawn anew while nothing happens, so that its clock moves.
const TICK: Duration = Duration::from_millis(200);

/// An observer that shows; clones show on the same screen.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    screen: Arc<Mutex<Screen>>,
}

#[derive(Debug)]
struct Screen {
    talk: Talk,
    /// What the bar, or the last line, is about.
    stage: String,
    bar: Option<ProgressBar>,
    warnings: Vec<String>,
}

impl Progress {
    pub(crate) fn new(talk: Talk) -> Self {
        let screen = Screen {
            talk,
            stage: String::new(),
            bar: None,
            warnings: Vec::new(),
        };
        Self {
            screen: Arc::new(Mutex::new(screen)),
        }
    }

    /// Takes the bar away; the work is over, one way or the other.
    pub(crate) fn clear(&self) {
        self.screen().clear();
    }

    /// Says `line` on stderr to whoever watches or asked for lines.
    pub(crate) fn say(&self, line: impl Display) {
        let screen = self.screen();
        if matches!(screen.talk, Talk::Bars | Talk::Lines) {
            screen.line(line);
        }
    }

    /// Says `line` on stderr to everybody who did not ask for quiet.
    pub(crate) fn tell(&self, line: impl Display) {
        let screen = self.screen();
        if screen.talk != Talk::Quiet {
            screen.line(line);
        }
    }

    /// Does what writes to the terminal while the bar is out of the way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.screen().aside(write)
    }

    /// Says a warning on stderr, and remembers it.
    pub(crate) fn warn(&self, warning: &str) {
        let mut screen = self.screen();
        screen.warnings.push(warning.to_owned());
        if screen.talk != Talk::Quiet {
            screen.line(format_args!("warning: {warning}"));
        }
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.screen().warnings.clone()
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        // A screen is whole after every call, so that a panic elsewhere cannot have spoilt it.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Progress {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::Download {
                file,
                received_bytes,
                total_bytes,
            } => {
                let unit = Unit::Bytes(*total_bytes);
                self.screen()
                    .stage(&format!("fetching {file}"), "", unit, *received_bytes);
            }
            Event::Loading {
                component,
                path,
                done,
                total,
            } => {
                let unit = Unit::Counted("tensors", *total as u64);
                let stage = format!("loading {component}");
                self.screen()
                    .stage(&stage, path.display(), unit, *done as u64);
            }
            Event::Loaded { elapsed } => {
                self.clear();
                self.say(format_args!("loaded in {}", seconds(*elapsed)));
            }
            Event::EncodingText { texts } => {
                let detail = format_args!("{texts} texts");
                self.screen()
                    .stage("encoding text", detail, Unit::Unknown, 0);
            }
            Event::Denoising {
                image,
                images,
                steps,
            } => self.screen().steps(*image, *images, *steps, 0),
            Event::Step(step) => self.screen().step(step),
            Event::Decoding { image, total } => {
                let stage = of("decoding picture", *image, *total);
                self.screen().stage(&stage, "", Unit::Unknown, 0);
            }
            // Saved by whoever waits for pictures.
            Event::Finished(_) => {}
            Event::Warning(text) => self.warn(text),
        }
    }
}

/// What the length of a stage is counted in.
#[derive(Clone, Copy)]
enum Unit {
    /// Things of this name, so many in all.
    Counted(&'static str, u64),
    /// Bytes, so many in all if that is known.
    Bytes(Option<u64>),
    /// Nothing: it takes as long as it takes.
    Unknown,
}

impl Screen {
    /// Shows that `stage` has come to `position`.
    fn stage(&mut self, stage: &str, detail: impl Display, unit: Unit, position: u64) {
        if self.stage == stage {
            if let Some(bar) = &self.bar {
                bar.set_position(position);
            }
            return;
        }
        self.clear();
        stage.clone_into(&mut self.stage);
        match self.talk {
            Talk::Quiet | Talk::Warnings => {}
            Talk::Lines => self.line(format_args!("{stage} {detail}").to_string().trim_end()),
            Talk::Bars => {
                // Hidden until it is whole, or a bar without length would flash up.
                let bar =
                    ProgressBar::with_draw_target(unit.length(), ProgressDrawTarget::hidden())
                        .with_style(unit.style())
                        .with_prefix(stage.to_owned())
                        .with_position(position);
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(TICK);
                self.bar = Some(bar);
            }
        }
    }

    fn steps(&mut self, image: usize, images: usize, total: usize, done: usize) {
        let stage = of("denoising picture", image, images);
        let detail = format_args!("in {total} steps");
        self.stage(
            &stage,
            detail,
            Unit::Counted("steps", total as u64),
            done as u64,
        );
    }

    fn step(&mut self, event: &StepEvent) {
        self.steps(event.image, event.images, event.total, event.step);
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "{}, {} left",
                rate(event.step, event.elapsed),
                clock(event.remaining)
            ));
        }
    }

    fn line(&self, line: impl Display) {
        self.aside(|| {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Does what writes to the terminal while the bar is out of the way.
    fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn clear(&mut self) {
        self.stage.clear();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Unit {
    fn length(self) -> Option<u64> {
        match self {
            Self::Counted(_, length) => Some(length),
            Self::Bytes(length) => length,
            Self::Unknown => None,
        }
    }

    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Counted(unit, _) => {
                &format!("{{prefix}} [{{wide_bar}}] {{pos}}/{{len}} {unit} {{msg}}")
            }
            Self::Bytes(Some(_)) => {
                "{prefix} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left"
            }
            Self::Bytes(None) => "{prefix} {spinner} {bytes}, {bytes_per_sec}",
            Self::Unknown => "{prefix} {spinner} {elapsed}",
        };
        ProgressStyle::with_template(template)
            .expect("templates are constants, this is a bug")
            .progress_chars("=> ")
    }
}

/// "decoding picture 2 of 3", and nothing about numbers where there is only one.
fn of(what: &str, index: usize, count: usize) -> String {
    if count > 1 {
        format!("{what} {} of {count}", index + 1)
    } else {
        what.to_owned()
    }
}

/// Steps per second, or seconds per step where that is the larger number.
fn rate(steps: usize, elapsed: Duration) -> String {
    let each = elapsed.as_secs_f64() / steps.max(1) as f64;
    if each > 1.0 {
        format!("{each:.2} s/it")
    } else if each > 0.0 {
        format!("{:.2} it/s", 1.0 / each)
    } else {
        "- it/s".to_owned()
    }
}

/// Hours, minutes and seconds as a clock shows them.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// Seconds to a tenth.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_well_whether_fast_or_slow() {
        assert_eq!(rate(10, Duration::from_secs(4)), "2.50 it/s");
        assert_eq!(rate(2, Duration::from_secs(9)), "4.50 s/it");
        assert_eq!(rate(0, Duration::ZERO), "- it/s");
    }

    #[test]
    fn clocks_carry_over() {
        assert_eq!(clock(Duration::from_secs(59)), "00:59");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
    }

    #[test]
    fn templates_are_valid() {
        for unit in [
            Unit::Counted("steps", 3),
            Unit::Bytes(Some(1)),
            Unit::Bytes(None),
            Unit::Unknown,
        ] {
            drop(unit.style());
        }
    }

    #[test]
    fn warnings_are_remembered_even_when_nothing_is_said() {
        let mut progress = Progress::new(Talk::Quiet);
        progress.on_event(&Event::Warning("cut".to_owned()));
        assert_eq!(progress.warnings(), ["cut"]);
    }
}
