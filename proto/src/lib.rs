//! The gRPC types Skiff speaks: the Container Runtime Interface (CRI v1), and what
//! its servers say to each other.
//!
//! Generated from `proto/*.proto`; the server halves are there for tests that
//! put a fake runtime behind a socket. Nothing here decides anything.

mod small;

pub mod cri {
    /// `runtime.v1`, as containerd serves it.
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}

pub mod peer {
    /// What servers of one cluster say to each other.
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod v1 {
        tonic::include_proto!("skiff.peer.v1");
    }
}

/// What plugins of a node serve.
pub mod kubelet {
    /// How they make themselves known (v1).
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod registration {
        tonic::include_proto!("pluginregistration");
    }
    /// Drivers of dynamic resource allocation (v1).
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod dra {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
    }
}

/// etcd's v3 API, as its clients speak it.
pub mod etcd {
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    #[allow(clippy::all, clippy::pedantic, missing_docs)]
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

#[cfg(test)]
mod tests {
    use super::cri::v1;
    use prost::Message;

    /// The numbers on the wire are the contract: a few that are easy to get wrong.
    #[test]
    fn field_numbers_are_those_of_kubernetes() {
        let status = v1::ContainerStatus {
            exit_code: 3,
            image_id: "x".into(),
            ..Default::default()
        };
        assert_eq!(status.encode_to_vec(), [0x38, 3, 0x8a, 1, 1, b'x']);
        let resources = v1::LinuxContainerResources {
            memory_limit_in_bytes: 5,
            ..Default::default()
        };
        assert_eq!(resources.encode_to_vec(), [0x20, 5]);
    }
}
