//! One paged read of a whole keyspace, and the same by a process of its own: whoever starts has no heap yet, so that
//! only another new process is its like.

use std::path::Path;
use std::time::Instant;

use flyball_store::Store;

/// The first argument of such a process.
const READ: &str = "--paged-read";

/// Whether this process was started as one.
pub(crate) fn is_asked() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == READ)
}

/// Plays it: reads what the second argument names and prints the milliseconds.
pub(crate) fn act() {
    let place = std::env::args().nth(2).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{}", runtime.block_on(read(&place)));
}

/// Milliseconds that a new process needs, without its start.
pub(crate) fn fresh(place: &str) -> f64 {
    let program = std::env::current_exe().unwrap();
    let read = std::process::Command::new(program).args([READ, place]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    String::from_utf8_lossy(&read.stdout).trim().parse().unwrap()
}

/// Milliseconds that this process needs: the etcd at an endpoint, or the embedded store in a directory, which is opened
/// first and which nobody else has open.
pub(crate) async fn read(place: &str) -> f64 {
    let begun = Instant::now();
    let took = || begun.elapsed().as_secs_f64() * 1e3;
    if place.contains("://") {
        let store = Store::connect(&[place.to_owned()]).await.unwrap();
        store.snapshot(0).await.unwrap();
        return took();
    }
    let options = flyball_embedded::Options::at(Path::new(place));
    let server = tokio::task::block_in_place(|| flyball_embedded::Server::open(options)).unwrap();
    let store = Store::from_channel(server.channel()).await.unwrap();
    store.snapshot(0).await.unwrap();
    let took = took();
    drop(store);
    tokio::task::block_in_place(|| drop(server));
    took
}
