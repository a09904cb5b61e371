//! Compiles the wire contract with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=flyball");
    let descriptors = protox::compile(["flyball/v1/flyball.proto"], ["."])?;
    // What holds a secret's value shows none of it; see src/lib.rs.
    tonic_prost_build::configure()
        .bytes(".")
        .skip_debug([
            ".flyball.v1.SetSecretRequest",
            ".flyball.v1.FetchedSecret",
            ".flyball.v1.SetupProvider",
            ".flyball.v1.JoinRequest",
            ".flyball.v1.CreateTokenResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
