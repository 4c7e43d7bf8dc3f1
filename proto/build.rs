//! Compiles the `.proto` files without `protoc`: protox parses, prost writes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "proto/cri.proto",
            "proto/peer.proto",
            "proto/kubelet/pluginregistration.proto",
            "proto/kubelet/dra.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".skiff.peer.v1")
        .compile_fds(files)?;
    // Many small messages: see `small`.
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".mvccpb")
        .bytes(".etcdserverpb")
        .codec_path("crate::small::SmallCodec")
        .compile_fds(protox::compile(["proto/etcd/rpc.proto"], ["proto"])?)?;
    Ok(())
}
