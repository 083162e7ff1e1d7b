//! Writing a result file so that it is either whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Writes `bytes` to `path` through a temporary file in the same folder, which takes the name only when it is
/// complete and on the disk. A file of that name is replaced.
///
/// # Errors
/// As [`check_writable`], and when the disk is full or fails; nothing is left behind then, and an older file of
/// that name is untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Checks that a file can be written at `path`, before hours of work end in nothing: the folder exists and takes
/// a new file, and `path` is not a folder or a device. A file that is there already may be replaced.
///
/// # Errors
/// When it cannot, naming the reason.
pub fn check_writable(path: &Path) -> Result<()> {
    let (_, temporary) = open_temporary(path)?;
    fs::remove_file(&temporary).map_err(|e| Error::io(&temporary, e))
}

fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let (mut file, temporary) = open_temporary(path)?;
    let written = fill(&mut file)
        // Without it a full disk may show only after the rename.
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|e| {
        drop(file);
        // The first error is the one to report; the file may be gone already.
        let _ = fs::remove_file(&temporary);
        let full = matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let error = Error::io(path, e);
        if full {
            error.with_hint("free some space or write to another disk; nothing was left behind")
        } else {
            error
        }
    })
}

/// Opens a new hidden file beside `path`.
fn open_temporary(path: &Path) -> Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);

    let not_a_file = |what: &str| {
        Error::invalid(format!(
            "{}: {what}, expected the name of a file",
            path.display()
        ))
    };
    if let Ok(facts) = fs::metadata(path) {
        if facts.is_dir() {
            return Err(not_a_file("found a folder").with_hint(format!(
                "name a file in it, as in {}",
                path.join("out.png").display()
            )));
        }
        if !facts.is_file() {
            return Err(not_a_file("found a device or pipe"));
        }
    }
    // "out/" names a folder even where there is none yet.
    if path
        .as_os_str()
        .to_string_lossy()
        .ends_with(std::path::is_separator)
    {
        return Err(not_a_file("found the name of a folder"));
    }
    let name = path
        .file_name()
        .ok_or_else(|| not_a_file("found no file name"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    check_folder(folder)?;
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    // The name is cut: with the additions it might become longer than the file system takes.
    let stem: String = name.to_string_lossy().chars().take(40).collect();
    let temporary = folder.join(format!(".{stem}.{}-{unique}.part", std::process::id()));
    match File::create_new(&temporary) {
        Ok(file) => Ok((file, temporary)),
        Err(e) => Err(Error::new(
            ErrorKind::Io,
            format!(
                "{}: cannot create files in this folder: {e}",
                folder.display()
            ),
        )
        .with_hint("choose another folder or change its permissions")
        .with_source(e)),
    }
}

fn check_folder(folder: &Path) -> Result<()> {
    match fs::metadata(folder) {
        Ok(facts) if facts.is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid(format!(
            "{}: found a file, expected a folder",
            folder.display()
        ))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::io(folder, e).with_hint("the folder must exist; create it first"))
        }
        Err(e) => Err(Error::io(folder, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writes_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_atomically(&path, b"one").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.png"]);
    }

    #[test]
    fn full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_atomically(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("a.png"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("space")));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.png"]);
    }

    #[test]
    fn names_what_is_wrong_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("file"), "").unwrap();
        let cases = [
            (root.to_path_buf(), ErrorKind::InvalidConfig, "folder"),
            (root.join("new/"), ErrorKind::InvalidConfig, "folder"),
            (root.join("none/a.png"), ErrorKind::NotFound, "none"),
            (
                root.join("file/a.png"),
                ErrorKind::InvalidConfig,
                "expected a folder",
            ),
            (PathBuf::new(), ErrorKind::InvalidConfig, "no file name"),
        ];
        for (path, kind, words) in cases {
            for error in [
                check_writable(&path).unwrap_err(),
                write_atomically(&path, b"x").unwrap_err(),
            ] {
                assert_eq!(error.kind(), kind, "{}: {error}", path.display());
                assert!(
                    error.message().contains(words),
                    "{}: {error}",
                    path.display()
                );
            }
        }
        assert_eq!(names(root), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn refuses_devices() {
        let error = check_writable(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}
