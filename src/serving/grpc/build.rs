//! Makes the code of the gRPC service from its .proto; without the sidecar there is nothing to make.

const PROTOS: [&str; 2] = ["src/serving/grpc/scorer.proto", "src/wire/columns.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    #[cfg(feature = "scorer")]
    {
        let files = protox::compile(PROTOS, ["src/serving/grpc", "src/wire"])?;
        tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    }
    Ok(())
}
