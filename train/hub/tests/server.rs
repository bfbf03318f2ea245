//! Against a server on this machine that answers as the hub does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use hub::{Hub, is_name};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, `org/tiny`, and the paths that were asked for.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(files: &[(&str, &str)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let files: BTreeMap<String, String> =
            files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let log = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &files, &log);
            }
        });
        Server { endpoint, asked }
    }

    fn hub(&self, cache: &std::path::Path) -> Hub {
        let (endpoint, cache) = (self.endpoint.clone(), cache.to_path_buf());
        Hub { endpoint, cache, token: None, offline: false, progress: false }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, String>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let path = request.split_whitespace().nth(1).unwrap().to_string();
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: bytes=").map(str::to_string).or(range);
    }
    asked.lock().unwrap().push(path.clone());
    let (status, headers, body) = reply(&path, range.as_deref(), files);
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n")?;
    write!(stream, "{headers}\r\n{body}")
}

/// Status, headers and body.
fn reply(
    path: &str,
    range: Option<&str>,
    files: &BTreeMap<String, String>,
) -> (&'static str, String, String) {
    if path == "/api/models/org/tiny/revision/main" {
        let names = files.keys().map(|name| format!("{{\"rfilename\":\"{name}\"}}"));
        let names = names.collect::<Vec<_>>().join(",");
        return (
            "200 OK",
            String::new(),
            format!("{{\"siblings\":[{names}],\"sha\":\"{COMMIT}\"}}"),
        );
    }
    let file = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
    let Some((name, text)) = file.and_then(|name| files.get_key_value(name)) else {
        return ("404 Not Found", String::new(), "no such file".to_string());
    };
    let (first, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(text.len(), |last: usize| last + 1).min(text.len());
    let headers = format!(
        "ETag: \"tag-{name}\"\r\nx-repo-commit: {COMMIT}\r\nContent-Range: bytes {first}-{}/{}\r\n",
        end.saturating_sub(1),
        text.len()
    );
    ("206 Partial Content", headers, text[first..end].to_string())
}

const MODEL: [(&str, &str); 5] = [
    ("config.json", "{\"model_type\": \"llama\"}"),
    ("model.safetensors", "weights"),
    ("tokenizer.json", "{}"),
    ("README.md", "read me"),
    ("pytorch_model.bin", "pickled"),
];

#[test]
fn a_model_is_fetched_once_and_kept_where_hugging_face_keeps_it() {
    let (server, cache) = (Server::start(&MODEL), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let dir = hub.fetch("org/tiny").unwrap();
    assert_eq!(dir, cache.path().join(format!("models--org--tiny/snapshots/{COMMIT}")));
    for (name, text) in MODEL {
        let wanted = !matches!(name, "README.md" | "pytorch_model.bin");
        assert_eq!(fs::read_to_string(dir.join(name)).ok(), wanted.then(|| text.to_string()));
    }
    let main = cache.path().join("models--org--tiny/refs/main");
    assert_eq!(fs::read_to_string(main).unwrap(), COMMIT);
    // Again: nothing but what the model now is.
    let asked = server.asked();
    assert_eq!(hub.fetch("org/tiny").unwrap(), dir);
    assert_eq!(server.asked(), asked + 1);
    // Without the network, and where it does not answer.
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.fetch("org/tiny").unwrap(), dir);
    let gone = Hub { endpoint: "http://127.0.0.1:9".to_string(), ..hub };
    assert_eq!(gone.fetch("org/tiny").unwrap(), dir);
    assert_eq!(server.asked(), asked + 1);
}

#[test]
fn weights_in_parts_come_with_their_index() {
    let parts = [
        ("config.json", "{}"),
        ("model-00001-of-00002.safetensors", "one"),
        ("model-00002-of-00002.safetensors", "two"),
        ("model.safetensors.index.json", "{}"),
    ];
    let (server, cache) = (Server::start(&parts), tempfile::tempdir().unwrap());
    let dir = server.hub(cache.path()).fetch("org/tiny").unwrap();
    for (name, text) in parts {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), text);
    }
}

#[test]
fn what_is_not_there_is_told_in_one_line() {
    let cache = tempfile::tempdir().unwrap();
    let line = |hub: Hub, name: &str| {
        let error = hub.fetch(name).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.starts_with(name), "{error}");
        error
    };
    let server = Server::start(&MODEL);
    let hub = server.hub(cache.path());
    assert!(line(hub.clone(), "org/other").contains("check the name"));
    let gone = Hub { endpoint: "http://127.0.0.1:9".to_string(), ..hub.clone() };
    assert!(line(gone, "org/tiny").contains("http://127.0.0.1:9"));
    assert!(line(Hub { offline: true, ..hub }, "org/tiny").contains("HF_HUB_OFFLINE"));
    let pickled = Server::start(&[("config.json", "{}"), ("pytorch_model.bin", "x")]);
    assert!(line(pickled.hub(cache.path()), "org/tiny").contains("no model.safetensors"));
    let data = Server::start(&[("model.safetensors", "x")]);
    assert!(line(data.hub(cache.path()), "org/tiny").contains("no config.json"));
}

#[test]
fn names_are_told_from_paths() {
    for name in ["org/tiny", "meta-llama/Llama-3.1-8B", "a/b_c.d"] {
        assert!(is_name(name), "{name}");
    }
    for path in ["out", "./out", "../out", "/org/tiny", "org/tiny/", "a/b/c", "a b/c", "", "/"] {
        assert!(!is_name(path), "{path}");
    }
}
