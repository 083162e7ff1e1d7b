//! Where the time of a forward pass goes, by kind of layer, kernel and shape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One kind of work, as far as its time is told apart from others'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// What part of a picture it is for: "text", "unet", "vae", or what [`Profiler::enter`] was told.
    pub stage: &'static str,
    /// Kind of layer, such as "conv 3x3" or "attention".
    pub kind: &'static str,
    /// Kernel that computes it, such as "conv-i16-winograd4".
    pub kernel: &'static str,
    /// Sizes, such as "2x64x64 320>640".
    pub shape: String,
}

/// What a kind of work took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Calls of the kernel.
    pub calls: u64,
    /// Time of all calls.
    pub time: Duration,
    /// Floating-point operations of all calls, as a direct computation counts them: a product and a sum are two.
    pub flops: f64,
}

impl Spent {
    /// Billions of operations a second; 0 for work that is not counted in operations.
    pub fn gflops(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 {
            self.flops / seconds / 1e9
        } else {
            0.0
        }
    }

    /// Adds another's share.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.time += other.time;
        self.flops += other.flops;
    }
}

/// A layer's own account of its work, made only when somebody listens.
pub(super) struct Account {
    pub(super) kind: &'static str,
    pub(super) kernel: &'static str,
    pub(super) shape: String,
    pub(super) flops: f64,
}

impl Account {
    /// Work that moves values and computes little: sizes alone.
    pub(super) fn moving(kind: &'static str, bhwc: [usize; 4]) -> Self {
        let [batch, height, width, channels] = bhwc;
        Self {
            kind,
            kernel: "f32",
            shape: format!("{batch}x{height}x{width} {channels}"),
            flops: 0.0,
        }
    }
}

/// Adds up the time of layers while it is switched on; costs one atomic read a layer while it is not.
#[derive(Debug, Default)]
pub struct Profiler {
    on: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    stage: &'static str,
    spent: BTreeMap<Work, Spent>,
}

impl Profiler {
    /// Starts counting. The clock belongs to the engine and its clones: there can be one listener at a time.
    pub fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// Stops counting; what is counted stays until it is taken.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// Whether it counts.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Counts what follows under `stage`.
    pub fn enter(&self, stage: &'static str) {
        self.book().stage = stage;
    }

    /// What was counted since the last call, and forgets it.
    pub fn take(&self) -> Vec<(Work, Spent)> {
        std::mem::take(&mut self.book().spent).into_iter().collect()
    }

    /// Runs `work`, and counts it under what `account` says.
    pub(super) fn time<R>(&self, account: impl FnOnce() -> Account, work: impl FnOnce() -> R) -> R {
        if !self.is_on() {
            return work();
        }
        let start = Instant::now();
        let result = work();
        let time = start.elapsed();
        let account = account();
        let mut book = self.book();
        let key = Work {
            stage: book.stage,
            kind: account.kind,
            kernel: account.kernel,
            shape: account.shape,
        };
        book.spent.entry(key).or_default().add(&Spent {
            calls: 1,
            time,
            flops: account.flops,
        });
        result
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            kind: "linear",
            kernel: "linear-f32",
            shape: "2 3>4".into(),
            flops: 48.0,
        }
    }

    #[test]
    fn counts_by_stage_and_only_while_on() {
        let profiler = Profiler::default();
        assert_eq!(profiler.time(account, || 1), 1);
        profiler.start();
        profiler.enter("unet");
        profiler.time(account, || ());
        profiler.time(account, || ());
        profiler.enter("vae");
        profiler.time(account, || ());
        let rows = profiler.take();
        let seen: Vec<_> = rows
            .iter()
            .map(|(work, spent)| (work.stage, spent.calls, spent.flops))
            .collect();
        assert_eq!(seen, [("unet", 2, 96.0), ("vae", 1, 48.0)]);
        assert!(profiler.take().is_empty());
    }
}
