//! Makes the code of the gRPC service from its .proto; without the sidecar there is nothing to make.

const PROTO: &str = "src/serving/grpc/scorer.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    #[cfg(feature = "scorer")]
    {
        let files = protox::compile([PROTO], ["src/serving/grpc"])?;
        tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    }
    Ok(())
}
