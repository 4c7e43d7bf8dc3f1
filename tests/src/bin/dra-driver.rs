//! A driver of dynamic resource allocation for tests: it registers with the node's agent, and gives each claim a
//! device that is nothing but a variable, `SKIFF_CLAIM`, told through a CDI specification. What it is asked is
//! written to its output, a line each. While `refuse` lies in its directory, it prepares nothing.
//!
//! `dra-driver NAME KUBELET_DIRECTORY`

use anyhow::{Context, Result};
use serde_json::json;
use skiff_proto::kubelet::dra;
use skiff_proto::kubelet::dra::dra_plugin_server::{DraPlugin, DraPluginServer};
use skiff_proto::kubelet::registration as reg;
use skiff_proto::kubelet::registration::registration_server::{Registration, RegistrationServer};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const CDI: &str = "/var/run/cdi";

#[derive(Clone)]
struct Driver {
    name: String,
    dir: PathBuf,
}

impl Driver {
    fn specification(&self, uid: &str) -> PathBuf {
        Path::new(CDI).join(format!("{}-{uid}.json", self.name))
    }

    fn prepare(&self, claim: &dra::Claim) -> Result<dra::Device> {
        let kind = format!("{}/device", self.name);
        let device = json!({"name": claim.uid, "containerEdits": {"env": [format!("SKIFF_CLAIM={}", claim.name)]}});
        let specification = json!({"cdiVersion": "0.6.0", "kind": kind, "devices": [device]});
        std::fs::create_dir_all(CDI)?;
        std::fs::write(self.specification(&claim.uid), specification.to_string())?;
        Ok(dra::Device {
            pool_name: "pool".into(),
            device_name: "device".into(),
            cdi_device_ids: vec![format!("{kind}={}", claim.uid)],
            ..dra::Device::default()
        })
    }
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<reg::InfoRequest>) -> Result<Response<reg::PluginInfo>, Status> {
        Ok(Response::new(reg::PluginInfo {
            r#type: "DRAPlugin".into(),
            name: self.name.clone(),
            endpoint: self.dir.join("dra.sock").display().to_string(),
            supported_versions: vec!["v1.DRAPlugin".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<reg::RegistrationStatus>,
    ) -> Result<Response<reg::RegistrationStatusResponse>, Status> {
        println!("registered {}", status.into_inner().plugin_registered);
        Ok(Response::new(reg::RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<dra::NodePrepareResourcesRequest>,
    ) -> Result<Response<dra::NodePrepareResourcesResponse>, Status> {
        let mut answer = dra::NodePrepareResourcesResponse::default();
        for claim in request.into_inner().claims {
            println!("prepare {}", claim.name);
            let prepared = match self.dir.join("refuse").exists() {
                true => Err(anyhow::anyhow!("told to refuse")),
                false => self.prepare(&claim),
            };
            let result = match prepared {
                Ok(device) => dra::NodePrepareResourceResponse {
                    devices: vec![device],
                    error: String::new(),
                },
                Err(error) => dra::NodePrepareResourceResponse {
                    devices: Vec::new(),
                    error: format!("{error:#}"),
                },
            };
            answer.claims.insert(claim.uid, result);
        }
        Ok(Response::new(answer))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<dra::NodeUnprepareResourcesResponse>, Status> {
        let mut answer = dra::NodeUnprepareResourcesResponse::default();
        for claim in request.into_inner().claims {
            println!("unprepare {}", claim.name);
            let _ = std::fs::remove_file(self.specification(&claim.uid));
            answer.claims.insert(claim.uid, Default::default());
        }
        Ok(Response::new(answer))
    }
}

fn listen(path: &Path) -> Result<impl futures::Stream<Item = std::io::Result<UnixStream>> + use<>> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    Ok(futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    }))
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("the driver's name is missing")?;
    let kubelet = PathBuf::from(arguments.next().context("kubelet's directory is missing")?);
    let dir = kubelet.join("plugins").join(&name);
    std::fs::create_dir_all(&dir)?;
    let driver = Driver { name, dir };
    let serves = listen(&driver.dir.join("dra.sock"))?;
    let registers = listen(
        &kubelet
            .join("plugins_registry")
            .join(format!("{}-reg.sock", driver.name)),
    )?;
    let devices = Server::builder().add_service(DraPluginServer::new(driver.clone()));
    let registration = Server::builder().add_service(RegistrationServer::new(driver));
    tokio::try_join!(
        devices.serve_with_incoming(serves),
        registration.serve_with_incoming(registers)
    )?;
    Ok(())
}
