//! The cache is made by hand and the hub is a socket on this machine: no test leaves it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NEXT_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// An empty safetensors file.
fn no_tensors() -> Vec<u8> {
    [&2_u64.to_le_bytes()[..], b"{}"].concat()
}

/// A repository with everything that opening asks for.
fn model() -> BTreeMap<&'static str, Vec<u8>> {
    let index = r#"{"_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "scheduler": ["diffusers", "PNDMScheduler"]}"#;
    let empty = b"{}".to_vec();
    BTreeMap::from([
        ("model_index.json", index.as_bytes().to_vec()),
        ("scheduler/scheduler_config.json", empty.clone()),
        ("unet/config.json", empty.clone()),
        ("unet/diffusion_pytorch_model.safetensors", no_tensors()),
        ("vae/config.json", empty.clone()),
        ("vae/diffusion_pytorch_model.safetensors", no_tensors()),
        ("text_encoder/config.json", empty),
        ("text_encoder/model.safetensors", no_tensors()),
        (
            "text_encoder/flax_model.msgpack",
            b"not to be fetched".to_vec(),
        ),
    ])
}

/// Lays a repository into a cache as hf-hub would.
fn fill(cache: &Path, files: &BTreeMap<&str, Vec<u8>>) -> PathBuf {
    let repository = cache.join("models--owner--name");
    let snapshot = repository.join("snapshots").join(COMMIT);
    for (name, content) in files {
        let path = path_in(&snapshot, name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs").join("main"), COMMIT).unwrap();
    snapshot
}

fn options(cache: &Path, network: Network, endpoint: &str) -> OpenOptions {
    OpenOptions {
        hub: HubOptions {
            cache_dir: Some(cache.to_owned()),
            network,
            endpoint: Some(endpoint.to_owned()),
        },
        ..OpenOptions::default()
    }
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_complete_copy_in_the_cache_needs_no_network() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = fill(cache.path(), &model());
    for network in [Network::Offline, Network::Allowed] {
        let options = options(cache.path(), network, &nowhere());
        for revision in [None, Some("main"), Some(COMMIT)] {
            let folder = folder_for("owner/name", revision, &options, &mut Silent).unwrap();
            assert_eq!(folder, snapshot);
        }
    }
}

#[test]
fn offline_an_incomplete_copy_is_an_error_that_says_what_is_missing() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path(), Network::Offline, &nowhere());
    let error = folder_for("owner/name", None, &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(
        error.message().contains("has no owner/name@main"),
        "{error}"
    );
    assert!(
        error.hint().unwrap().contains("tintype pull owner/name"),
        "{error}"
    );

    let mut files = model();
    files.remove("vae/diffusion_pytorch_model.safetensors");
    fill(cache.path(), &files);
    let error = folder_for("owner/name", None, &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(
        error.message().contains("component vae has no weights"),
        "{error}"
    );
}

#[test]
fn without_network_the_error_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path(), Network::Allowed, &nowhere());
    let error = folder_for("owner/name", None, &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(
        error
            .message()
            .contains("owner/name@main cannot be fetched"),
        "{error}"
    );
    assert!(
        error.hint().unwrap().contains("check the connection"),
        "{error}"
    );
}

#[test]
fn revisions_that_would_leave_the_cache_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path(), Network::Offline, &nowhere());
    for revision in ["../../x", "", "a b", "/etc", "refs/../x", "."] {
        let error = folder_for("owner/name", Some(revision), &options, &mut Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{revision}");
    }
    assert!(checked_revision(Some("refs/pr/1")).is_ok());
}

#[test]
fn the_environment_is_read_as_python_reads_it() {
    for yes in ["1", "true", "TRUE", "Yes", "on"] {
        assert!(is_true(yes));
    }
    for no in ["", "0", "false", "off", "2"] {
        assert!(!is_true(no));
    }
}

/// A hub with one repository, `owner/name`.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
    commit: Arc<Mutex<&'static str>>,
}

impl Hub {
    fn serve(files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            asked: Arc::default(),
            commit: Arc::new(Mutex::new(COMMIT)),
        };
        let (asked, commit) = (hub.asked.clone(), hub.commit.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(&stream, &files, &asked, *commit.lock().unwrap());
            }
        });
        hub
    }

    /// Files asked for since the last look.
    fn fetched(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked
            .iter()
            .filter_map(|line| Some(line.strip_prefix("GET ")?.split_once("/resolve/")?.1))
            .map(|path| path.split_once('/').unwrap().1.to_owned())
            .collect()
    }
}

/// Answers one request and closes.
fn answer(
    mut stream: &TcpStream,
    files: &BTreeMap<&'static str, Vec<u8>>,
    asked: &Mutex<Vec<String>>,
    commit: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = request.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    asked.lock().unwrap().push(format!("{method} {path}"));
    let listing = || {
        let siblings: Vec<_> = files
            .keys()
            .map(|file| serde_json::json!({"rfilename": file}))
            .collect();
        serde_json::json!({"id": "owner/name", "sha": commit, "siblings": siblings})
            .to_string()
            .into_bytes()
    };
    let body = match path
        .strip_prefix("/owner/name/resolve/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((_, file)) => files.get(file).cloned(),
        None if path.starts_with("/api/models/owner/name") => Some(listing()),
        None => None,
    };
    let status = if body.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = body.unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{:x}\"\r\nX-Repo-Commit: {commit}\r\nConnection: close\r\n\r\n",
        body.len(),
        path.bytes()
            .fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte)),
    )?;
    if method == "GET" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

#[test]
fn pulling_fetches_what_is_missing_reports_it_and_keeps_it() {
    let hub = Hub::serve(model());
    let cache = tempfile::tempdir().unwrap();
    let open = options(cache.path(), Network::Allowed, &hub.endpoint);
    let pull_options = PullOptions {
        variant: None,
        hub: open.hub.clone(),
    };
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    let mut observer = |event: &Event| {
        if let Event::Download {
            file,
            received_bytes,
            ..
        } = event
        {
            events.insert(file.clone(), *received_bytes);
        }
    };
    let folder = pull("owner/name", &pull_options, &mut observer).unwrap();
    assert!(folder.ends_with(format!("models--owner--name/snapshots/{COMMIT}")));
    let fetched = hub.fetched();
    assert_eq!(fetched[0], INDEX_FILE);
    assert_eq!(fetched.len(), model().len() - 1);
    assert!(!fetched.iter().any(|file| file.contains("flax")));
    for (file, content) in model() {
        if !file.contains("flax") {
            assert_eq!(
                std::fs::read(path_in(&folder, file)).unwrap(),
                content,
                "{file}"
            );
            assert_eq!(events.get(file), Some(&(content.len() as u64)), "{file}");
        }
    }
    // Opening asks nobody; pulling again asks only whether there is something new.
    assert_eq!(
        folder_for("owner/name", None, &open, &mut Silent).unwrap(),
        folder
    );
    assert!(hub.asked.lock().unwrap().is_empty());
    assert_eq!(
        pull("owner/name", &pull_options, &mut Silent).unwrap(),
        folder
    );
    assert!(hub.fetched().is_empty());
    // A new commit is fetched anew, and only then does the branch point to it.
    *hub.commit.lock().unwrap() = NEXT_COMMIT;
    let next = pull("owner/name", &pull_options, &mut Silent).unwrap();
    assert!(next.ends_with(NEXT_COMMIT));
    assert_eq!(
        folder_for("owner/name", None, &open, &mut Silent).unwrap(),
        next
    );
}

const INDEX_FILE: &str = "model_index.json";

#[test]
fn pulling_without_network_falls_back_on_a_complete_copy_and_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = fill(cache.path(), &model());
    let pull_options = PullOptions {
        variant: None,
        hub: options(cache.path(), Network::Allowed, &nowhere()).hub,
    };
    let mut warnings = Vec::new();
    let mut observer = |event: &Event| warnings.push(event.clone());
    assert_eq!(
        pull("owner/name", &pull_options, &mut observer).unwrap(),
        snapshot
    );
    assert!(
        matches!(&warnings[..], [Event::Warning(text)] if text.contains("in the cache is used")),
        "{warnings:?}"
    );
}

#[test]
fn what_the_hub_does_not_have_is_named() {
    let hub = Hub::serve(BTreeMap::from([
        ("v1.safetensors", vec![]),
        ("README.md", vec![]),
    ]));
    let cache = tempfile::tempdir().unwrap();
    let options = PullOptions {
        variant: None,
        hub: options(cache.path(), Network::Allowed, &hub.endpoint).hub,
    };
    let error = pull("owner/name", &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error
            .message()
            .contains("holds the files v1.safetensors, expected model_index.json"),
        "{error}"
    );
    let error = pull("owner/other", &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.message().contains("the hub has no owner/other@main"),
        "{error}"
    );
    let error = pull("/not/an/id", &options, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
