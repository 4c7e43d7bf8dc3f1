//! The executable, run as containerd runs it, in throw-away namespaces: one for
//! the node, one for each pod. Needs root.
#![allow(clippy::unwrap_used)]

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Namespace(String);

impl Namespace {
    fn new(test: &str, role: &str) -> Namespace {
        let name = format!("skcni-{}-{test}-{role}", std::process::id());
        assert!(
            Command::new("ip")
                .args(["netns", "add", &name])
                .status()
                .unwrap()
                .success(),
            "needs root"
        );
        Namespace(name)
    }

    fn path(&self) -> String {
        format!("/var/run/netns/{}", self.0)
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(File::open(self.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

struct Node {
    ns: Namespace,
    dir: tempfile::TempDir,
    version: &'static str,
}

impl Node {
    fn new(test: &str) -> Node {
        let ns = Namespace::new(test, "node");
        ns.run(|| {
            assert!(
                Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status()
                    .unwrap()
                    .success()
            );
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        });
        Node {
            ns,
            dir: tempfile::tempdir().unwrap(),
            version: "1.0.0",
        }
    }

    fn call(&self, command: &str, container: &str, netns: &str, uid: &str, extra: Value) -> (bool, Value) {
        let mut conf = json!({"cniVersion": self.version, "name": "skiff", "type": "skiff-cni",
            "podCIDRs": ["10.99.0.0/28"], "dataDir": self.dir.path(), "mtu": 1400});
        for (key, value) in extra.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        self.ns.run(|| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_skiff-cni"))
                .env_clear()
                .envs([
                    ("CNI_COMMAND", command),
                    ("CNI_CONTAINERID", container),
                    ("CNI_IFNAME", "eth0"),
                ])
                .envs([("CNI_NETNS", netns), ("CNI_PATH", "/opt/cni/bin")])
                .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_UID={uid}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(conf.to_string().as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            let value = if output.stdout.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&output.stdout).unwrap()
            };
            (output.status.success(), value)
        })
    }

    fn links(&self) -> usize {
        self.ns.run(|| {
            let text = Command::new("ip").args(["-o", "link"]).output().unwrap().stdout;
            String::from_utf8(text)
                .unwrap()
                .lines()
                .filter(|line| line.contains("skv"))
                .count()
        })
    }
}

fn ip_of(result: &Value) -> String {
    result["ips"][0]["address"]
        .as_str()
        .unwrap_or_else(|| panic!("{result}"))
        .trim_end_matches("/32")
        .to_owned()
}

/// One byte there and back over TCP.
fn talk(server: &Namespace, address: &str, client: &Namespace) {
    let listener = server.run(|| TcpListener::bind((address, 0)).unwrap());
    let to: SocketAddr = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| listener.accept().unwrap().0.write_all(b"!").unwrap());
        client.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
        });
    });
}

#[test]
fn pods_reach_each_other_and_the_node() {
    let (node, a, b) = (
        Node::new("reach"),
        Namespace::new("reach", "a"),
        Namespace::new("reach", "b"),
    );
    let (ok, first) = node.call("ADD", "ca", &a.path(), "ua", json!({}));
    assert!(ok, "{first}");
    let (ok, second) = node.call("ADD", "cb", &b.path(), "ub", json!({}));
    assert!(ok, "{second}");
    assert_eq!(
        (ip_of(&first), ip_of(&second)),
        ("10.99.0.2".into(), "10.99.0.3".into())
    );
    assert_eq!(first["interfaces"][1]["sandbox"], a.path());
    talk(&a, "10.99.0.2", &b);
    talk(&b, "10.99.0.3", &a);
    // The node reaches a pod, from an address that the pod can answer to.
    node.ns.run(|| {
        assert!(
            Command::new("ip")
                .args(["addr", "add", "192.0.2.1/32", "dev", "lo"])
                .status()
                .unwrap()
                .success()
        )
    });
    talk(&a, "10.99.0.2", &node.ns);
    talk(&node.ns, "192.0.2.1", &a);

    assert!(
        node.call("CHECK", "ca", &a.path(), "ua", json!({"prevResult": first}))
            .0
    );
    let (ok, error) = node.call("CHECK", "ca", &a.path(), "ua", json!({"prevResult": second}));
    assert_eq!((ok, error["code"].as_u64()), (false, Some(102)));
    for _ in 0..2 {
        assert_eq!(node.call("DEL", "ca", &a.path(), "ua", json!({})), (true, Value::Null));
    }
    assert_eq!(node.links(), 1);
    assert_eq!(node.call("CHECK", "ca", &a.path(), "ua", json!({})).1["code"], 3);
    drop(b);
    assert!(node.call("DEL", "cb", "", "ub", json!({})).0, "DEL without a namespace");
    assert_eq!(node.links(), 0);
}

#[test]
fn pod_keeps_its_address_in_its_next_sandbox_while_the_old_one_stands() {
    let (node, a, b) = (
        Node::new("keep"),
        Namespace::new("keep", "a"),
        Namespace::new("keep", "b"),
    );
    let old = node.call("ADD", "c1", &a.path(), "u", json!({})).1;
    let new = node.call("ADD", "c2", &b.path(), "u", json!({})).1;
    assert_eq!(ip_of(&old), ip_of(&new));
    assert!(node.call("DEL", "c1", &a.path(), "u", json!({})).0);
    // The late DEL of the first sandbox took nothing from the second.
    assert!(node.call("CHECK", "c2", &b.path(), "u", json!({"prevResult": new})).0);
    node.ns.run(|| {
        assert!(
            Command::new("ip")
                .args(["addr", "add", "192.0.2.1/32", "dev", "lo"])
                .status()
                .unwrap()
                .success()
        )
    });
    talk(&b, &ip_of(&new), &node.ns);
}

#[test]
fn add_repairs_what_a_crashed_add_left() {
    let (node, a, b) = (
        Node::new("crash"),
        Namespace::new("crash", "a"),
        Namespace::new("crash", "b"),
    );
    // Crashed after the link: it stands, with its pod end in a namespace, without addresses or lease.
    let made = node.call("ADD", "c", &b.path(), "u", json!({})).1;
    let name = made["interfaces"][0]["name"].as_str().unwrap().to_owned();
    std::fs::write(node.dir.path().join("skiff/leases.json.new"), b"{torn").unwrap();
    std::fs::remove_file(node.dir.path().join("skiff/leases.json")).unwrap();
    let (ok, again) = node.call("ADD", "c", &a.path(), "u", json!({}));
    assert!(ok, "{again}");
    assert_eq!(again["interfaces"][0]["name"], name.as_str());
    assert!(node.call("CHECK", "c", &a.path(), "u", json!({"prevResult": again})).0);
    assert_eq!(node.links(), 1);
}

#[test]
fn failed_add_leaves_no_link_and_no_lease() {
    let node = Node::new("fail");
    let (ok, error) = node.call("ADD", "c", "/var/run/netns/skcni-none", "u", json!({}));
    assert_eq!(
        (ok, error["code"].as_u64(), error["cniVersion"].as_str()),
        (false, Some(100), Some("1.0.0"))
    );
    assert!(error["details"].as_str().unwrap().contains("No such file"), "{error}");
    assert_eq!(node.call("CHECK", "c", "/x", "u", json!({})).1["code"], 3);
}

#[test]
fn gc_status_version_and_loopback() {
    let (node, a, b) = (Node::new("gc"), Namespace::new("gc", "a"), Namespace::new("gc", "b"));
    assert_eq!(node.call("STATUS", "", "", "", json!({})), (true, Value::Null));
    node.call("ADD", "ca", &a.path(), "ua", json!({}));
    node.call("ADD", "cb", &b.path(), "ub", json!({}));
    let keep = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "cb", "ifname": "eth0"}]});
    assert_eq!(node.call("GC", "", "", "", keep), (true, Value::Null));
    assert_eq!(node.links(), 1);
    let full = json!({"podCIDRs": ["10.99.0.0/31"]});
    assert_eq!(node.call("STATUS", "", "", "", full).1["code"], 50);
    let versions = node.call("VERSION", "", "", "", json!({})).1;
    assert!(
        versions["supportedVersions"]
            .as_array()
            .unwrap()
            .contains(&json!("0.4.0")),
        "{versions}"
    );
    let lo = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
    let (ok, result) = node.call("ADD", "cl", &a.path(), "", lo);
    assert!(ok && result["ips"][0]["version"] == "4", "{result}");
    a.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
}

#[test]
fn fifty_pods_at_once_have_fifty_addresses() {
    let node = Node::new("many");
    let pods: Vec<_> = (0..50).map(|i| Namespace::new("many", &i.to_string())).collect();
    let wide = json!({"podCIDRs": ["10.99.0.0/24"], "cniVersion": "0.4.0"});
    let start = Instant::now();
    let addresses: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(i, pod)| {
                let (node, wide) = (&node, wide.clone());
                scope.spawn(move || {
                    ip_of(
                        &node
                            .call("ADD", &format!("c{i}"), &pod.path(), &format!("u{i}"), wide)
                            .1,
                    )
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    println!("50 ADDs at once: {:?}", start.elapsed());
    assert_eq!(addresses.len(), 50);
    let start = Instant::now();
    node.call("ADD", "c0", &pods[0].path(), "u0", wide);
    println!("one ADD over a stale link: {:?}", start.elapsed());
}
