//! The server behind Nginx, as the guide has it.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::StatusCode;
use kubeagents_contract::Process;
use kubeagents_test_postgres::found_or_installed;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::events::Reader;
use crate::support::{PATIENCE, Server, command, report, root};

/// Nginx in front of a server.
struct Nginx {
    /// Takes requests as the server behind it does.
    front: Server,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it with what the guide has it do, changed by `change`.
    fn before(server: &Server, change: impl FnOnce(String) -> String) -> Self {
        let find = || {
            let program = Path::new("/usr/sbin/nginx");
            program.exists().then(|| program.to_owned())
        };
        let script = "apt-get update && apt-get install -y --no-install-recommends nginx";
        let program: PathBuf = found_or_installed("nginx", find, script);
        let folder = tempfile::tempdir().unwrap();
        // It takes over a socket that listens already, as when it is upgraded.
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        let address = socket.local_addr().unwrap();

        let guide = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
        let (_, block) = guide.split_once("```nginx\n").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let block = change(block.to_owned())
            .replace("listen 80;", &format!("listen {address};"))
            .replace("127.0.0.1:8080", &server.address.to_string());
        let here = folder.path().display();
        let names = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders = names.map(|name| format!("{name}_temp_path {here}/{name};\n"));
        let file = folder.path().join("nginx.conf");
        let text = format!(
            "daemon off; pid {here}/pid; error_log stderr;\n\
            events {{}}\nhttp {{ access_log off;\n{}{block}}}\n",
            folders.concat()
        );
        fs::write(&file, text).unwrap();
        let mut nginx = Command::new(program);
        nginx.arg("-c").arg(file).arg("-p").arg(folder.path());
        nginx.env("NGINX", format!("{};", socket.as_raw_fd()));
        let process = Process::start(&mut nginx).unwrap();
        Self {
            front: Server { process, address },
            _folder: folder,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers would outlive it if it were killed.
        self.front.signal(Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < PATIENCE && self.front.process.exit_status().unwrap().is_none() {
            sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test]
async fn nginx_hands_on_requests_and_events_at_once() {
    let server = Server::start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let nginx = Nginx::before(&server, |block| block);
    let mut reader = Reader::follow(&nginx.front).await;
    for topic in ["one", "two"] {
        nginx.front.report(topic, "running").await;
        reader.topic(topic).await;
    }
    let page = nginx.front.get("/board").await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
}

#[tokio::test]
async fn below_a_path_of_nginx_clients_work() {
    let server = Server::start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let nginx = Nginx::before(&server, |block| {
        block
            .replace("location / ", "location /kubeagents/ ")
            .replace("127.0.0.1:8080;", "127.0.0.1:8080/;")
    });
    let front = &nginx.front;
    let path = "/kubeagents/webhook/status";
    let answer = front.post(path, &report("by hand", "running")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let url = format!("http://{}/kubeagents", front.address);
    let home = tempfile::tempdir().unwrap();
    let mut client = command(&[
        ("KUBEAGENTS_SERVER_URL", &*url),
        ("HOME", home.path().to_str().unwrap()),
    ]);
    client.args(["report", "running", "--topic", "by command"]);
    let output = client.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let list = front.get("/kubeagents/api/sessions").await.body;
    let topics = list["sessions"].as_array().unwrap().iter();
    let mut topics: Vec<_> = topics.map(|session| &session["session_topic"]).collect();
    topics.sort_by_key(|topic| topic.to_string());
    assert_eq!(topics, ["by command", "by hand"]);
}
