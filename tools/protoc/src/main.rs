//! A stand-in for `protoc` that understands the flags prost-build passes, so that building Flyball
//! needs no protobuf installation: it compiles `.proto` files to a descriptor set, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use prost::Message;

/// What prost-build asks of `protoc`.
#[derive(Default)]
struct Request {
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
    output: Option<PathBuf>,
    imports: bool,
    source_info: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|request| compile(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("flyball-protoc: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut request = Request::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--version" => {
                println!("libprotoc 30.0 (flyball-protoc)");
                std::process::exit(0);
            }
            "--include_imports" => request.imports = true,
            "--include_source_info" => request.source_info = true,
            "--experimental_allow_proto3_optional" => {}
            "-o" => request.output = args.next().map(PathBuf::from),
            "-I" => request.includes.extend(args.next().map(PathBuf::from)),
            other => parse_joined(other, &mut request)?,
        }
    }
    Ok(request)
}

fn parse_joined(arg: &str, request: &mut Request) -> Result<(), String> {
    if let Some(path) = arg.strip_prefix("--descriptor_set_out=") {
        request.output = Some(path.into());
    } else if let Some(path) = arg.strip_prefix("--proto_path=") {
        request.includes.push(path.into());
    } else if let Some(path) = arg.strip_prefix("-o") {
        request.output = Some(path.into());
    } else if let Some(path) = arg.strip_prefix("-I") {
        request.includes.push(path.into());
    } else if arg.starts_with('-') {
        return Err(format!("flag {arg} is not supported; set PROTOC to a real protoc"));
    } else {
        request.files.push(arg.into());
    }
    Ok(())
}

fn compile(request: &Request) -> Result<(), String> {
    let output = request.output.as_ref().ok_or("no output file given (-o)")?;
    let mut compiler =
        protox::Compiler::new(&request.includes).map_err(|error| error.to_string())?;
    compiler.include_imports(request.imports).include_source_info(request.source_info);
    compiler.open_files(&request.files).map_err(|error| error.to_string())?;
    std::fs::write(output, compiler.file_descriptor_set().encode_to_vec())
        .map_err(|error| format!("cannot write {}: {error}", output.display()))
}
