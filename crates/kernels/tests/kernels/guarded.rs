//! That guarded memory is guarded: this program run again under `TINTYPE_GUARD`, to touch what it must not and die of it.
//!
//! `TINTYPE_GUARD=end cargo test -p tintype-kernels --test kernels`, and with `start`, runs every test of this program so.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "a child says what it got to")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use tintype_kernels::{Arena, Buffer};

/// Names the case to a child.
const CASE: &str = "TINTYPE_GUARD_CASE";

/// Runs one test of this program as a child under the guard.
fn child(test: &str, guard: &str, case: &str) -> (ExitStatus, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env("TINTYPE_GUARD", guard)
        .env(CASE, case)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// Reads the value `by` values from the start of five.
fn read(values: &[f32], by: isize) {
    assert_eq!(values.len(), 5);
    let pointer = values.as_ptr().wrapping_offset(by);
    // SAFETY: none if `by` leaves the slice: that is what the test is about, in a process of its own.
    println!("value: {}", unsafe { pointer.read_volatile() });
}

/// Memory of every kind, read at `by`.
fn read_at(kind: &str, by: isize) {
    match kind {
        "vec" => read(&Vec::from([1.0; 5]), by),
        "buffer" => read(&Buffer::zeroed(5), by),
        "lease" => read(&Arena::default().take(5), by),
        other => panic!("no memory of kind {other}"),
    }
}

#[test]
fn a_value_beside_guarded_memory_cannot_be_read() {
    if let Ok(case) = std::env::var(CASE) {
        let (kind, by) = case.split_once(' ').unwrap();
        return read_at(kind, by.parse().unwrap());
    }
    let test = "guarded::a_value_beside_guarded_memory_cannot_be_read";
    for kind in ["vec", "buffer", "lease"] {
        for (guard, inside, outside) in [("end", 4, 5), ("start", 0, -1)] {
            let (status, text) = child(test, guard, &format!("{kind} {inside}"));
            assert!(
                status.success() && text.contains("value: "),
                "{kind} {guard}: {text}"
            );
            let (status, text) = child(test, guard, &format!("{kind} {outside}"));
            assert_eq!(
                status.signal(),
                Some(libc::SIGSEGV),
                "{kind} {guard}: {text}"
            );
            assert!(!text.contains("value: "), "{kind} {guard}: {text}");
        }
    }
}

#[test]
fn a_write_on_the_other_side_shows_when_memory_is_given_back() {
    if std::env::var_os(CASE).is_some() {
        let mut values = vec![1.0f32; 5];
        let by = if std::env::var("TINTYPE_GUARD").unwrap() == "end" {
            -1
        } else {
            5
        };
        // SAFETY: none, as above.
        unsafe { values.as_mut_ptr().wrapping_offset(by).write_volatile(2.0) };
        println!("written");
        return;
    }
    for guard in ["end", "start"] {
        let test = "guarded::a_write_on_the_other_side_shows_when_memory_is_given_back";
        let (status, text) = child(test, guard, "write");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{guard}: {text}");
        assert!(
            text.contains("written") && text.contains("beside an allocation"),
            "{guard}: {text}"
        );
    }
}

#[test]
fn an_unknown_guard_is_refused() {
    let (status, text) = child("none", "middle", "");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("neither `end` nor `start`"), "{text}");
}
