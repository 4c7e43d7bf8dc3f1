use super::*;
use skiff_proto::kubelet::registration::registration_server::{Registration, RegistrationServer};
use skiff_proto::kubelet::registration::{PluginInfo, RegistrationStatusResponse};
use std::sync::Mutex;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// A plugin that says what it is, and tells what it is told.
struct Fake {
    info: PluginInfo,
    told: mpsc::UnboundedSender<RegistrationStatus>,
}

#[tonic::async_trait]
impl Registration for Fake {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let _ = self.told.send(status.into_inner());
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>, tokio::sync::Notify);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().expect("whole").push(what);
        self.1.notify_one();
    }

    async fn wait_for(&self, what: &str) {
        let found = async {
            while !self.0.lock().expect("whole").iter().any(|seen| seen == what) {
                self.1.notified().await;
            }
        };
        let limit = tokio::time::timeout(Duration::from_secs(30), found).await;
        assert!(
            limit.is_ok(),
            "{what} was not seen, but {:?}",
            self.0.lock().expect("whole")
        );
    }
}

struct Noting(Arc<Seen>);

#[async_trait]
impl Handler for Noting {
    fn kind(&self) -> &'static str {
        "DRAPlugin"
    }

    async fn register(&self, plugin: Plugin) -> Result<(), String> {
        self.0.note(format!("+{} {}", plugin.name, plugin.endpoint.display()));
        match plugin.name.as_str() {
            "bad" => Err("not this one".into()),
            _ => Ok(()),
        }
    }

    async fn gone(&self, plugin: &Plugin) {
        self.0.note(format!("-{}", plugin.name));
    }
}

fn serve(socket: &Path, kind: &str, name: &str, endpoint: &str) -> mpsc::UnboundedReceiver<RegistrationStatus> {
    let (told, hears) = mpsc::unbounded_channel();
    let listener = UnixListener::bind(socket).expect("bound");
    let info = PluginInfo {
        r#type: kind.into(),
        name: name.into(),
        endpoint: endpoint.into(),
        supported_versions: vec!["v1.DRAPlugin".into()],
    };
    let served = tonic::transport::Server::builder().add_service(RegistrationServer::new(Fake { info, told }));
    tokio::spawn(served.serve_with_incoming(UnixListenerStream::new(listener)));
    hears
}

#[tokio::test]
async fn plugins_come_are_told_and_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let (at, seen) = (dir.path().to_owned(), Arc::new(Seen::default()));
    let shutdown = CancellationToken::new();
    let mut first = serve(&at.join("first.sock"), "DRAPlugin", "first", "/there/dra.sock");
    std::fs::write(at.join("no-socket"), "").expect("written");
    let handler: Arc<dyn Handler> = Arc::new(Noting(seen.clone()));
    let running = tokio::spawn(follow(at.clone(), vec![handler], shutdown.clone()));
    seen.wait_for("+first /there/dra.sock").await;
    assert!(first.recv().await.expect("told").plugin_registered);
    // One that comes later, one that is refused, one that nobody wants.
    let socket = at.join("second.sock");
    let mut second = serve(&socket, "DRAPlugin", "second", "");
    seen.wait_for(&format!("+second {}", socket.display())).await;
    assert!(second.recv().await.expect("told").plugin_registered);
    let mut bad = serve(&at.join("bad.sock"), "DRAPlugin", "bad", "");
    let told = bad.recv().await.expect("told");
    assert_eq!((told.plugin_registered, told.error.as_str()), (false, "not this one"));
    let mut other = serve(&at.join("csi.sock"), "CSIPlugin", "csi", "");
    let told = other.recv().await.expect("told");
    assert_eq!(told.error, "no handler registered for plugin type: CSIPlugin");
    std::fs::remove_file(&socket).expect("removed");
    seen.wait_for("-second").await;
    shutdown.cancel();
    running.await.expect("ends");
    assert!(!seen.0.lock().expect("whole").contains(&"-first".to_string()));
}
