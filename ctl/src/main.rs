//! The binary `flyball`.

fn main() -> std::process::ExitCode {
    flyball::main()
}
