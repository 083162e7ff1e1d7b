//! The folder of wildcards: names to files, and nothing outside of it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::parse::{ChoiceOption, parse_option};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::prompt::options::nearest;

/// Largest file of wildcards.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The user's folder of wildcards.
#[derive(Debug)]
pub struct Wildcards {
    folder: PathBuf,
    files: HashMap<String, Rc<Vec<ChoiceOption>>>,
}

impl Wildcards {
    /// Opens a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .map_err(|error| Error::io(folder, error))?;
        if !folder.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{}: not a folder of wildcards", folder.display()),
            ));
        }
        Ok(Self {
            folder,
            files: HashMap::new(),
        })
    }

    pub(super) fn options(&mut self, name: &str) -> Result<Rc<Vec<ChoiceOption>>> {
        if let Some(known) = self.files.get(name) {
            return Ok(Rc::clone(known));
        }
        let path = self.path_of(name)?;
        let facts = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        if facts.len() > MAX_FILE_BYTES {
            return Err(Error::malformed(format!(
                "{}: {} bytes, a file of wildcards has at most {MAX_FILE_BYTES}",
                path.display(),
                facts.len()
            )));
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::malformed(format!("{}: not UTF-8 text: {error}", path.display()))
        })?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let options = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_option(line, true, 1))
            .collect::<Result<Vec<_>>>()
            .context(path.display())?;
        if options.iter().all(|option| option.weight <= 0.0) {
            return Err(Error::malformed(format!(
                "{}: no line to choose",
                path.display()
            )));
        }
        let options = Rc::new(options);
        self.files.insert(name.to_owned(), Rc::clone(&options));
        Ok(options)
    }

    /// The file of a wildcard, inside the folder.
    fn path_of(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let leaves = || {
            Error::invalid(format!("the wildcard `__{name}__` leaves its folder"))
                .with_hint("names are relative to the folder, with / between and without ..")
        };
        if !inside || name.contains('\\') {
            return Err(leaves());
        }
        let mut path = self.folder.join(relative).into_os_string();
        path.push(".txt");
        match PathBuf::from(path).canonicalize() {
            // A link may point anywhere; what it leads to counts.
            Ok(path) if path.starts_with(&self.folder) => Ok(path),
            Ok(_) => Err(leaves()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let error = Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "unknown wildcard `__{name}__`, looked in {}",
                        self.folder.display()
                    ),
                );
                let names = self.names();
                Err(match nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => error.with_hint(format!("did you mean `__{near}__`?")),
                    None => error,
                })
            }
            Err(error) => Err(Error::io(&self.folder.join(relative), error)),
        }
    }

    /// The names of the folder itself, for a hint.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                Some(name.to_str()?.strip_suffix(".txt")?.to_owned())
            })
            .collect()
    }
}
