//! The whole dataplane of a node in throw-away namespaces: a node, pods wired as
//! the CNI plugin wires them, and a client outside. Needs root and nft.
#![allow(clippy::unwrap_used)]

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use skiff_network::{Backend, ClusterView, NetworkConfig, start, teardown};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(5);

struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "sknet-{}-{}-{role}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        assert!(
            Command::new("ip")
                .args(["netns", "add", &name])
                .status()
                .unwrap()
                .success(),
            "needs root"
        );
        let ns = Namespace(name);
        ns.ip("link set lo up");
        ns
    }

    fn path(&self) -> String {
        format!("/var/run/netns/{}", self.0)
    }

    fn enter(&self) {
        setns(File::open(self.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap()
        })
    }

    fn output(&self, program: &str, arguments: &str) -> String {
        let output = self.run(|| {
            Command::new(program)
                .args(arguments.split_whitespace())
                .output()
                .unwrap()
        });
        assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn ip(&self, arguments: &str) {
        self.output("ip", arguments);
    }

    /// A server that greets each client with its own name and the client's address.
    fn greet(&self, address: &str, name: &'static str) {
        let listener = self.run(|| TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, client)) = listener.accept() {
                let _ = stream.write_all(format!("{name} {}", client.ip()).as_bytes());
                // Stays open until the client goes, to watch connections survive.
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read(&mut byte).is_ok_and(|n| n > 0) && stream.write_all(&byte).is_ok() {}
                });
            }
        });
    }

    fn connect(&self, to: &str) -> std::io::Result<(TcpStream, String)> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            let mut buffer = [0; 100];
            let length = stream.read(&mut buffer)?;
            Ok((stream, String::from_utf8_lossy(&buffer[..length]).into_owned()))
        })
    }

    /// Waits until a fresh connection is greeted, or refused, as expected.
    fn expect(&self, to: &str, wanted: Result<&str, ErrorKind>) {
        let start = Instant::now();
        loop {
            let found = self
                .connect(to)
                .map(|(_, greeting)| greeting)
                .map_err(|error| error.kind());
            let fine = match (&found, &wanted) {
                (Ok(greeting), Ok(wanted)) => greeting.starts_with(wanted),
                (Err(kind), Err(wanted)) => kind == wanted,
                _ => false,
            };
            if fine {
                return;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{to} from {}: wanted {wanted:?}, last {found:?}",
                self.0
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A node with its dataplane on a thread of its own.
struct Node {
    ns: Namespace,
    config: NetworkConfig,
    view: watch::Sender<Arc<ClusterView>>,
    running: Option<(CancellationToken, std::thread::JoinHandle<()>)>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new(number: u8, backend: Backend) -> Node {
        let ns = Namespace::new(&format!("node{number}"));
        let dir = tempfile::tempdir().unwrap();
        let config = NetworkConfig {
            node_name: format!("node{number}"),
            node_ip: format!("192.0.2.{number}").parse().unwrap(),
            pod_cidr: format!("10.42.{number}.0/24").parse().unwrap(),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            cluster_dns: "10.43.0.10".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            backend,
            upstream_resolv_conf: dir.path().join("resolv.conf"),
            data_dir: dir.path().join("network"),
            mtu: None,
        };
        Node {
            ns,
            config,
            view: watch::Sender::new(Arc::default()),
            running: None,
            _dir: dir,
        }
    }

    fn link_to(&self, other: &Namespace, other_address: &str) {
        self.ns
            .ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.0));
        self.ns.ip(&format!("addr add {}/24 dev eth0", self.config.node_ip));
        self.ns.ip("link set eth0 up");
        other.ip(&format!("addr add {other_address}/24 dev eth0"));
        other.ip("link set eth0 up");
    }

    fn pod(&self, address: &str, name: &'static str) -> Namespace {
        let pod = Namespace::new(name);
        self.ns
            .ip(&format!("link add skv{name} type veth peer name eth0 netns {}", pod.0));
        self.ns.ip(&format!("link set skv{name} up"));
        pod.ip(&format!("addr add {address}/32 dev eth0"));
        pod.ip("link set eth0 up");
        let link = self.ns.output("ip", &format!("-o link show skv{name}"));
        let mac = link
            .split("link/ether ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        pod.ip("route add 169.254.1.1 dev eth0 scope link");
        pod.ip("route add default via 169.254.1.1 dev eth0");
        pod.ip(&format!(
            "neigh replace 169.254.1.1 lladdr {mac} dev eth0 nud permanent"
        ));
        self.ns.ip(&format!("route add {address}/32 dev skv{name} scope link"));
        pod
    }

    fn start(&mut self) {
        let (config, path, view) = (self.config.clone(), self.ns.path(), self.view.subscribe());
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let network = start(config, view, token.clone()).await;
                match network {
                    Ok(network) => {
                        ready.send(Ok(())).unwrap();
                        token.cancelled().await;
                        network.stopped().await;
                    }
                    Err(error) => ready.send(Err(format!("{error:?}"))).unwrap(),
                }
            });
        });
        is_ready.recv_timeout(DEADLINE).unwrap().unwrap();
        self.running = Some((shutdown, thread));
    }

    fn stop(&mut self) {
        if let Some((shutdown, thread)) = self.running.take() {
            shutdown.cancel();
            thread.join().unwrap();
        }
    }

    fn teardown(&mut self) {
        self.stop();
        let (dns, dir) = (self.config.cluster_dns, self.config.data_dir.clone());
        self.ns.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(teardown(dns, &dir)).unwrap();
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = self.running.take() {
            shutdown.cancel();
        }
    }
}

fn service(view: &mut ClusterView, name: &str, spec: Value) {
    let value = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    view.services.insert(
        ("default".into(), name.into()),
        Arc::new(serde_json::from_value(value).unwrap()),
    );
}

fn endpoints(view: &mut ClusterView, name: &str, ips: &[&str], port: u16, protocol: &str) {
    let list: Vec<Value> = ips
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}, "nodeName": "node1"}))
        .collect();
    let value = json!({"metadata": {"namespace": "default", "name": format!("{name}-1"),
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": list, "ports": [{"name": "", "port": port, "protocol": protocol}]});
    view.endpoint_slices.insert(
        ("default".into(), format!("{name}-1")),
        Arc::new(serde_json::from_value(value).unwrap()),
    );
}

fn node(view: &mut ClusterView, number: u8) {
    let value = json!({"metadata": {"name": format!("node{number}")},
        "spec": {"podCIDR": format!("10.42.{number}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{number}")}]}});
    view.nodes.insert(
        format!("node{number}"),
        Arc::new(serde_json::from_value(value).unwrap()),
    );
}

#[test]
fn services_by_every_way_in_and_nothing_left_behind() {
    let (mut node, outside) = (Node::new(1, Backend::Auto), Namespace::new("out"));
    node.link_to(&outside, "192.0.2.9");
    let (a, b) = (node.pod("10.42.1.5", "a"), node.pod("10.42.1.6", "b"));
    a.greet("0.0.0.0:8080", "a");
    b.greet("0.0.0.0:8080", "b");
    outside.greet("0.0.0.0:7000", "out");
    let mut view = ClusterView::default();
    let ports = json!([{"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}]);
    service(
        &mut view,
        "web",
        json!({"type": "NodePort", "clusterIP": "10.43.0.100", "ports": ports,
        "externalIPs": ["198.51.100.7"]}),
    );
    endpoints(&mut view, "web", &["10.42.1.6"], 8080, "TCP");
    let ports =
        json!([{"port": 80, "nodePort": 30081, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "name": "u"}]);
    service(&mut view, "empty", json!({"clusterIP": "10.43.0.101", "ports": ports}));
    let dns = json!([{"port": 53, "protocol": "TCP", "name": "t"}]);
    service(&mut view, "kube-dns", json!({"clusterIP": "10.43.0.10", "ports": dns}));
    let pod: Value = json!({"metadata": {"namespace": "default", "name": "b"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": 8081}]}]},
        "status": {"phase": "Running", "podIP": "10.42.1.6", "podIPs": [{"ip": "10.42.1.6"}]}});
    view.pods.insert(
        ("default".into(), "b".into()),
        Arc::new(serde_json::from_value(pod).unwrap()),
    );
    node.view.send_replace(Arc::new(view.clone()));
    node.start();

    a.expect("10.43.0.100:80", Ok("b 10.42.1.5"));
    node.ns.expect("10.43.0.100:80", Ok("b 192.0.2.1"));
    // Hairpin: the pod sees the node, not itself.
    b.expect("10.43.0.100:80", Ok("b 192.0.2.1"));
    outside.expect("192.0.2.1:30080", Ok("b 192.0.2.1"));
    node.ns.expect("127.0.0.1:30080", Ok("b 192.0.2.1"));
    node.ns.expect("192.0.2.1:30080", Ok("b"));
    a.expect("192.0.2.1:30080", Ok("b"));
    a.expect("198.51.100.7:80", Ok("b"));
    outside.expect("192.0.2.1:8081", Ok("b 192.0.2.9"));
    node.ns.expect("127.0.0.1:8081", Ok("b"));
    b.expect("192.0.2.1:8081", Ok("b"));
    a.expect("192.0.2.9:7000", Ok("out 192.0.2.1"));
    for refused in ["10.43.0.101:80", "192.0.2.1:30081", "10.43.0.100:81"] {
        a.expect(refused, Err(ErrorKind::ConnectionRefused));
        node.ns.expect(refused, Err(ErrorKind::ConnectionRefused));
    }
    outside.expect("192.0.2.1:30081", Err(ErrorKind::ConnectionRefused));
    dns_answers(&a);
    dns_answers(&node.ns);

    // A restart takes the table over without breaking what goes through it.
    let (mut held, _) = a.connect("10.43.0.100:80").unwrap();
    node.stop();
    node.start();
    held.write_all(b"x").unwrap();
    held.read_exact(&mut [0]).unwrap();

    endpoints(&mut view, "web", &["10.42.1.5"], 8080, "TCP");
    node.view.send_replace(Arc::new(view.clone()));
    b.expect("10.43.0.100:80", Ok("a"));
    view.services.remove(&("default".into(), "web".into()));
    node.view.send_replace(Arc::new(view.clone()));
    b.expect("10.43.0.100:80", Err(ErrorKind::ConnectionRefused));
    outside.expect("192.0.2.1:30080", Err(ErrorKind::ConnectionRefused));

    node.teardown();
    assert_eq!(node.ns.output("nft", "list tables"), "");
    assert_eq!(node.ns.output("ip", "route show proto 83"), "");
    assert!(!node.ns.output("ip", "link").contains("skv"));
    assert!(!node.ns.output("ip", "addr show dev lo").contains("10.43"));
    assert_eq!(
        node.ns
            .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward"))
            .unwrap()
            .trim(),
        "0"
    );
    node.teardown();
}

/// One A question over UDP and one over TCP, by hand: the wire is what counts.
fn dns_answers(client: &Namespace) {
    let query = question("Web.default.svc.cluster.local", 1);
    let check = |answer: &[u8]| {
        assert_eq!(
            (&answer[..2], answer[3] & 0x0f, answer[7]),
            (&[0x12u8, 0x34][..], 0, 1),
            "{answer:?}"
        );
        assert_eq!(answer[answer.len() - 4..], [10, 43, 0, 100]);
    };
    client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect("10.43.0.10:53").unwrap();
        socket.send(&query).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        check(&buffer[..length]);
        let mut stream = TcpStream::connect("10.43.0.10:53").unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &query].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        check(&answer);
    });
}

#[test]
fn affinity_local_policy_and_udp() {
    let (mut node, outside) = (Node::new(1, Backend::Auto), Namespace::new("out"));
    node.link_to(&outside, "192.0.2.9");
    let (a, b) = (node.pod("10.42.1.5", "a"), node.pod("10.42.1.6", "b"));
    a.greet("0.0.0.0:8080", "a");
    b.greet("0.0.0.0:8080", "b");
    let mut view = ClusterView::default();
    let port = |node_port: u16| json!([{"port": 80, "nodePort": node_port, "protocol": "TCP"}]);
    service(
        &mut view,
        "sticky",
        json!({"clusterIP": "10.43.0.100", "sessionAffinity": "ClientIP", "ports": port(30080)}),
    );
    endpoints(&mut view, "sticky", &["10.42.1.5", "10.42.1.6"], 8080, "TCP");
    service(
        &mut view,
        "local",
        json!({"clusterIP": "10.43.0.101", "externalTrafficPolicy": "Local", "ports": port(30081)}),
    );
    endpoints(&mut view, "local", &["10.42.1.6"], 8080, "TCP");
    service(
        &mut view,
        "both",
        json!({"clusterIP": "10.43.0.102", "ports": port(30082)}),
    );
    endpoints(&mut view, "both", &["10.42.1.5", "10.42.1.6"], 8080, "TCP");
    service(
        &mut view,
        "udp",
        json!({"clusterIP": "10.43.0.103", "ports": [{"port": 99, "protocol": "UDP"}]}),
    );
    endpoints(&mut view, "udp", &["10.42.1.5"], 99, "UDP");
    node.view.send_replace(Arc::new(view.clone()));
    node.start();

    let first = node.ns.connect("10.43.0.100:80").unwrap().1;
    for _ in 0..10 {
        assert_eq!(node.ns.connect("10.43.0.100:80").unwrap().1, first, "affinity lost");
    }
    // The client's own address arrives.
    outside.expect("192.0.2.1:30081", Ok("b 192.0.2.9"));
    let seen: std::collections::BTreeSet<String> = (0..40)
        .map(|_| node.ns.connect("10.43.0.102:80").unwrap().1[..1].to_owned())
        .collect();
    assert_eq!(seen.len(), 2, "one backend had everything");

    // A UDP client with one port moves on when its backend goes.
    let serve = |pod: &Namespace, name: &'static [u8]| {
        let socket = pod.run(|| UdpSocket::bind("0.0.0.0:99").unwrap());
        std::thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 10]) {
                let _ = socket.send_to(name, client);
            }
        });
    };
    serve(&a, b"a");
    serve(&b, b"b");
    let client = node.ns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let ask = |wanted: &[u8]| {
        let start = Instant::now();
        let mut buffer = [0; 10];
        loop {
            client.send_to(b"?", "10.43.0.103:99").unwrap();
            match client.recv_from(&mut buffer) {
                Ok((n, _)) if &buffer[..n] == wanted => return,
                other => assert!(start.elapsed() < DEADLINE, "{other:?}"),
            }
        }
    };
    ask(b"a");
    endpoints(&mut view, "udp", &["10.42.1.6"], 99, "UDP");
    node.view.send_replace(Arc::new(view.clone()));
    ask(b"b");
    node.teardown();
}

#[test]
fn pods_of_two_nodes_by_tunnel_and_by_route() {
    for (backend, marker) in [(Backend::Vxlan, "dev skiff-vx"), (Backend::Auto, "dev eth0")] {
        let (mut one, mut two) = (Node::new(1, backend), Node::new(2, backend));
        one.link_to(&two.ns, "192.0.2.2");
        let (a, b) = (one.pod("10.42.1.5", "a"), two.pod("10.42.2.5", "b"));
        a.greet("0.0.0.0:8080", "a");
        b.greet("0.0.0.0:8080", "b");
        let mut view = ClusterView::default();
        node(&mut view, 1);
        node(&mut view, 2);
        service(
            &mut view,
            "web",
            json!({"clusterIP": "10.43.0.100", "ports": [{"port": 80, "nodePort": 30080}]}),
        );
        endpoints(&mut view, "web", &["10.42.2.5"], 8080, "TCP");
        for node in [&mut one, &mut two] {
            node.view.send_replace(Arc::new(view.clone()));
            node.start();
        }
        a.expect("10.42.2.5:8080", Ok("b 10.42.1.5"));
        b.expect("10.42.1.5:8080", Ok("a 10.42.2.5"));
        a.expect("10.43.0.100:80", Ok("b 10.42.1.5"));
        one.ns.expect("10.43.0.100:80", Ok("b"));
        one.ns.expect("10.42.2.5:8080", Ok("b"));
        assert!(one.ns.output("ip", "route show 10.42.2.0/24").contains(marker));
        // A node that leaves takes its route, and the last one the tunnel.
        view.nodes.remove("node2");
        one.view.send_replace(Arc::new(view.clone()));
        let start = Instant::now();
        while !one.ns.output("ip", "route show 10.42.2.0/24").is_empty()
            || one.ns.output("ip", "link").contains("skiff-vx")
        {
            assert!(start.elapsed() < DEADLINE, "{}", one.ns.output("ip", "route"));
        }
        one.teardown();
        two.teardown();
        assert!(!two.ns.output("ip", "link").contains("skiff-vx"));
    }
}

/// A question's wire form, with the ID 0x1234.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query
}

fn ask_udp(from: &Namespace, query: &[u8]) -> Vec<u8> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect("10.43.0.10:53").unwrap();
        socket.send(query).unwrap();
        let mut buffer = vec![0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    })
}

#[test]
fn dns_forwards_caches_follows_aliases_and_truncates() {
    let (mut node, outside) = (Node::new(1, Backend::Auto), Namespace::new("out"));
    node.link_to(&outside, "192.0.2.9");
    let pod = node.pod("10.42.1.5", "a");
    // The host's name server: answers every question with 192.0.2.77, and counts.
    let upstream = outside.run(|| UdpSocket::bind("192.0.2.9:53").unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = upstream.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
            let _ = upstream.send_to(&answer, client);
        }
    });
    // Ourselves first: a loop if it were followed.
    std::fs::write(
        &node.config.upstream_resolv_conf,
        "nameserver 10.43.0.10\nnameserver 192.0.2.9\n",
    )
    .unwrap();
    let mut view = ClusterView::default();
    service(
        &mut view,
        "ext",
        json!({"type": "ExternalName", "externalName": "www.example.com"}),
    );
    service(&mut view, "big", json!({"clusterIP": "None"}));
    let many: Vec<String> = (1..200).map(|i| format!("10.42.1.{i}")).collect();
    endpoints(
        &mut view,
        "big",
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
        80,
        "TCP",
    );
    node.view.send_replace(Arc::new(view));
    node.start();

    for expected in [1, 1] {
        let answer = ask_udp(&pod, &question("www.example.com", 1));
        assert_eq!(
            (&answer[..2], answer[7], &answer[answer.len() - 4..]),
            (&[0x12u8, 0x34][..], 1, &[192u8, 0, 2, 77][..])
        );
        assert_eq!(asked.load(Ordering::Relaxed), expected, "not answered from the cache");
    }
    // CNAME and A, the latter from the cache as well.
    let answer = ask_udp(&pod, &question("ext.default.svc.cluster.local", 1));
    assert_eq!(
        (answer[3] & 0x0f, answer[7], &answer[answer.len() - 4..]),
        (0, 2, &[192u8, 0, 2, 77][..])
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Names of ours never leave the node; NXDOMAIN carries an SOA.
    let answer = ask_udp(&pod, &question("nope.default.svc.cluster.local", 28));
    assert_eq!((answer[3] & 0x0f, answer[7], answer[9]), (3, 0, 1));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Too long for a packet: says so, and TCP has it all.
    let big = question("big.default.svc.cluster.local", 1);
    let answer = ask_udp(&pod, &big);
    assert_eq!((answer[2] & 0x02, answer[7]), (2, 0));
    pod.run(|| {
        let mut stream = TcpStream::connect("10.43.0.10:53").unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = u16::try_from(big.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &big].concat()).unwrap();
        let mut header = [0; 2 + 12];
        stream.read_exact(&mut header).unwrap();
        assert_eq!((header[4] & 0x02, u16::from_be_bytes([header[8], header[9]])), (0, 199));
    });
    // Rubbish is answered or ignored, and does no harm.
    assert_eq!(
        ask_udp(&pod, &[0x12, 0x34, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 99])[3] & 0x0f,
        1
    );
    node.teardown();
}

#[test]
fn another_firewall_that_drops_forwarding_lets_pods_through() {
    let (mut node, outside) = (Node::new(1, Backend::Auto), Namespace::new("out"));
    node.link_to(&outside, "192.0.2.9");
    let (a, b) = (node.pod("10.42.1.5", "a"), node.pod("10.42.1.6", "b"));
    b.greet("0.0.0.0:8080", "b");
    // As Docker leaves it.
    let path = node.config.upstream_resolv_conf.with_file_name("docker.nft");
    let text = "table ip filter { chain DOCKER-USER { counter return; }
        chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER;\n}\n}";
    std::fs::write(&path, text).unwrap();
    node.ns.output("nft", &format!("-f {}", path.display()));
    node.ns
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .unwrap();
    assert!(
        a.connect("10.42.1.6:8080").is_err(),
        "the other firewall does not drop: the test shows nothing"
    );
    let mut view = ClusterView::default();
    service(
        &mut view,
        "web",
        json!({"clusterIP": "10.43.0.100", "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    endpoints(&mut view, "web", &["10.42.1.6"], 8080, "TCP");
    node.view.send_replace(Arc::new(view));
    for _ in 0..2 {
        node.start();
        a.expect("10.42.1.6:8080", Ok("b"));
        outside.expect("192.0.2.1:30080", Ok("b"));
        assert_eq!(
            node.ns
                .output("nft", "list chain ip filter DOCKER-USER")
                .matches("skiff")
                .count(),
            1
        );
        node.stop();
    }
    node.teardown();
    assert!(!node.ns.output("nft", "list ruleset").contains("skiff"));
}
