//! How the files of pictures are named.
//!
//! A name the user gave is written to, replaced if it exists. A name made up here never replaces anything:
//! it counts up until it is free.

use std::path::{Path, PathBuf};

use tintype::{Error, ErrorKind, Result, metadata};

const SEED: &str = "{seed}";
const INDEX: &str = "{index}";

/// Where the pictures of one run go.
#[derive(Debug)]
pub(crate) enum Naming {
    /// Default names in this folder.
    Fresh { folder: PathBuf },
    /// What the user asked for, with placeholders where pictures would collide.
    Pattern { folder: PathBuf, name: String },
}

impl Naming {
    /// Reads `--out` for a run of `batch` pictures, whose seeds may all be one.
    pub(crate) fn new(out: Option<&Path>, batch: usize, one_seed: bool) -> Result<Self> {
        let Some(out) = out else {
            return Ok(Self::Fresh {
                folder: PathBuf::from("."),
            });
        };
        if out.is_dir() {
            return Ok(Self::Fresh {
                folder: out.to_owned(),
            });
        }
        let text = out.to_str().ok_or_else(|| {
            Error::invalid(format!(
                "--out is `{}`, expected a name in Unicode",
                out.display()
            ))
        })?;
        if text.ends_with(std::path::is_separator) {
            return Err(
                Error::new(ErrorKind::NotFound, format!("{text}: no such folder"))
                    .with_hint(format!("make it first: mkdir -p {text}")),
            );
        }
        let (Some(name), Some(folder)) = (out.file_name(), out.parent()) else {
            return Err(
                Error::invalid(format!("--out is `{text}`, expected a file name"))
                    .with_hint("use a name such as picture.png"),
            );
        };
        let name = name.to_string_lossy().into_owned();
        check_format(&name)?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let distinct = (name.contains(SEED) && !one_seed) || name.contains(INDEX);
        let name = if batch > 1 && !distinct {
            with_index(&name)
        } else {
            name
        };
        Ok(Self::Pattern {
            folder: folder.to_owned(),
            name,
        })
    }

    /// The file of picture `index`, from 0, made with `seed`.
    pub(crate) fn path(&self, index: usize, seed: u64) -> PathBuf {
        match self {
            Self::Fresh { folder } => free_name(folder, seed),
            Self::Pattern { folder, name } => join(folder, &expand(name, index, seed)),
        }
    }

    /// Tries whether the files of `batch` pictures can be written; a seed that is not drawn yet counts as 0.
    pub(crate) fn check_writable(&self, batch: usize, seed: Option<u64>) -> Result<()> {
        self.paths(batch, seed.unwrap_or_default())
            .try_for_each(|path| metadata::check_writable(&path))
    }

    fn paths(&self, batch: usize, seed: u64) -> impl Iterator<Item = PathBuf> {
        (0..batch).map(move |index| self.path(index, seed.wrapping_add(index as u64)))
    }
}

fn check_format(name: &str) -> Result<()> {
    if name == "-" {
        return Err(
            Error::unsupported("--out is `-`, and pictures are not written to stdout")
                .with_hint("name a file; its path is printed on stdout"),
        );
    }
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    match extension {
        Some(extension) if extension.eq_ignore_ascii_case("png") => Ok(()),
        Some(extension) => Err(Error::unsupported(format!(
            "--out ends in `.{extension}`, expected `.png`: pictures are written as PNG only"
        ))
        .with_hint(format!(
            "use {}",
            Path::new(name).with_extension("png").display()
        ))),
        None => Err(Error::invalid(format!(
            "--out is `{name}`, expected a name that ends in `.png`"
        ))
        .with_hint(format!("use {name}.png, or make the folder {name} first"))),
    }
}

fn with_index(name: &str) -> String {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "png"));
    format!("{stem}-{INDEX}.{extension}")
}

fn expand(name: &str, index: usize, seed: u64) -> String {
    name.replace(SEED, &seed.to_string())
        .replace(INDEX, &(index + 1).to_string())
}

fn free_name(folder: &Path, seed: u64) -> PathBuf {
    let first = join(folder, &format!("tintype-{seed}.png"));
    if !first.exists() {
        return first;
    }
    // No folder holds enough files for the range to end.
    (2..u64::MAX)
        .map(|count| join(folder, &format!("tintype-{seed}-{count}.png")))
        .find(|path| !path.exists())
        .unwrap_or(first)
}

/// `./name` reads worse than `name`.
fn join(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") {
        PathBuf::from(name)
    } else {
        folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(out: &str, batch: usize) -> Vec<String> {
        let naming = Naming::new(Some(Path::new(out)), batch, false).unwrap();
        let paths = naming.paths(batch, 7);
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_name_is_taken_as_it_is_and_a_batch_counts() {
        assert_eq!(names("x.png", 1), ["x.png"]);
        assert_eq!(names("x.png", 2), ["x-1.png", "x-2.png"]);
        assert_eq!(names("no/v1.5.PNG", 2), ["no/v1.5-1.PNG", "no/v1.5-2.PNG"]);
        assert_eq!(names("{seed}-cat.png", 2), ["7-cat.png", "8-cat.png"]);
        assert_eq!(
            names("{index}of2-{seed}.png", 2),
            ["1of2-7.png", "2of2-8.png"]
        );
    }

    #[test]
    fn pictures_of_one_seed_are_told_apart_by_their_index() {
        let naming = |name| Naming::new(Some(Path::new(name)), 2, true).unwrap();
        for (name, expected) in [("{seed}.png", "7-2.png"), ("{index}-{seed}.png", "2-7.png")] {
            assert_eq!(naming(name).path(1, 7), Path::new(expected));
        }
    }

    #[test]
    fn default_names_never_replace_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let naming = Naming::new(Some(folder.path()), 1, false).unwrap();
        for expected in ["tintype-7.png", "tintype-7-2.png", "tintype-7-3.png"] {
            let path = naming.path(0, 7);
            assert_eq!(path, folder.path().join(expected));
            std::fs::write(&path, "").unwrap();
        }
        assert_eq!(naming.path(0, 8), folder.path().join("tintype-8.png"));
    }

    #[test]
    fn refuses_what_it_cannot_write() {
        let cases = [
            ("x.jpg", ErrorKind::Unsupported, "use x.png"),
            ("-", ErrorKind::Unsupported, "name a file"),
            ("x", ErrorKind::InvalidConfig, "x.png"),
            ("nowhere/", ErrorKind::NotFound, "mkdir -p nowhere/"),
            ("nowhere/..", ErrorKind::InvalidConfig, "picture.png"),
        ];
        for (out, kind, hint) in cases {
            let error = Naming::new(Some(Path::new(out)), 1, false).unwrap_err();
            assert_eq!(error.kind(), kind, "{out}");
            assert!(error.hint().unwrap().contains(hint), "{out}: {error}");
        }
    }
}
