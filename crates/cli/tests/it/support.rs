//! Running the binary in an empty folder with an environment of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tintype_testkit::{Form, TinyModel};

/// A folder to run in, gone when dropped.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the tiny model of `family` into the folder `model`.
    pub(crate) fn write_model(&self, family: &str) {
        TinyModel::family(family).write_folder(&self.path("model"), &Form::default());
    }

    /// Sets `key` in the JSON file `name`.
    pub(crate) fn edit_json(&self, name: &str, key: &str, value: impl Into<Value>) {
        let mut document: Value = serde_json::from_slice(&self.read(name)).unwrap();
        document[key] = value.into();
        std::fs::write(self.path(name), document.to_string()).unwrap();
    }

    /// Puts NaN into the first element of `tensor` in an f32 safetensors file.
    pub(crate) fn poison(&self, name: &str, tensor: &str) {
        let mut bytes = self.read(name);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let offset = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        let start = 8 + length + offset;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The files in the folder, folders left out, sorted.
    pub(crate) fn pictures(&self) -> Vec<String> {
        let mut names = self.files();
        names.retain(|name| self.path(name).is_file());
        names
    }

    /// The names of the files in the folder, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The command, not yet run: no variable of ours or the hub's is set but what keeps it offline, and
    /// an empty cache.
    pub(crate) fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tintype"));
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("TINTYPE_")
                || name_text.starts_with("HF_")
                || name_text == "COLUMNS"
            {
                command.env_remove(&name);
            }
        }
        command
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.path(".hub"))
            .current_dir(self.folder.path())
            .args(arguments);
        command
    }

    pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let run = Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "escape codes without a terminal: {run:?}"
        );
        run
    }

    /// The run succeeded; its stdout.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The run failed with `code`, said nothing on stdout and `error:` on stderr; its stderr.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}
