//! A provider behind TLS: what its certificate has to be, and what is said when it is not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flyball_core::model::Protocol;
use flyball_pki::{Authority, KeyOf, LiveIdentity, Order, Subject, write_identity};
use flyball_tests::provider::{Provider, Reply};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};

use crate::client;
use crate::killed::Child;
use crate::rig::{KEY, body};

/// A scripted provider behind TLS, at `localhost`.
struct Secured {
    provider: Provider,
    _runtime: tokio::runtime::Runtime,
    url: String,
    /// Connections so far.
    asked: Arc<AtomicUsize>,
}

fn authority(dir: &Path) -> Authority {
    Authority::init(dir, "test", flyball_pki::DAY, Timestamp::now()).unwrap()
}

impl Secured {
    /// With a certificate for this name.
    fn start(authority: &Authority, dir: &Path, name: &str) -> Self {
        let order = Order {
            subject: Subject::EtcdMember("provider".to_owned()),
            hosts: vec![name.to_owned()],
            lifetime: flyball_pki::DAY,
            key: KeyOf::New,
            not_before: None,
        };
        let issued = authority.issue(&order, Timestamp::now()).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        let key = issued.key.as_deref().unwrap();
        write_identity(dir, &issued.bundle, &issued.chain, key).unwrap();
        let identity = LiveIdentity::open(dir).unwrap();
        let provider = Provider::start(|_| Reply::text("wonderful"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::<AtomicUsize>::default();
        let plain = provider.url().trim_start_matches("http://").to_owned();
        runtime.spawn(serve(listener, identity, plain, asked.clone()));
        Self { provider, _runtime: runtime, url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, identity: LiveIdentity, to: String, asked: Arc<AtomicUsize>) {
    let identity = Arc::new(identity);
    while let Ok((tcp, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let (identity, to) = (identity.clone(), to.clone());
        tokio::spawn(async move {
            // Whoever does not trust the certificate goes away.
            let Ok(accepted) = flyball_pki::accept(tcp, &identity, true).await else { return };
            let (mut near, mut far) = (accepted.stream, TcpStream::connect(to).await.unwrap());
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

/// Calls a gateway: the answer's status and text.
fn call(child: &Child, stream: bool) -> (u16, String) {
    let asked = body(Protocol::Anthropic, stream).to_string();
    let answer = client::send(child.address, "POST", "/v1/messages", &[("x-api-key", KEY)], &asked);
    (answer.status, answer.text())
}

#[test]
fn a_provider_is_believed_by_its_certificate_and_name_or_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(&dir.path().join("ours")), authority(&dir.path().join("other")));
    let roots = |authority: &Authority, name: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, authority.bundle()).unwrap();
        [("SSL_CERT_FILE", file.display().to_string())]
    };
    let trusting = roots(&ours, "ours.pem");

    let good = Secured::start(&ours, &dir.path().join("good"), "localhost");
    let child = Child::start_at(&good.url, &trusting);
    for stream in [false, true] {
        let (status, text) = call(&child, stream);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("wonderful"), "{text}");
    }
    assert_eq!(good.provider.totals().0, 2);
    assert_eq!(good.asked(), 1, "the connection is kept");

    let misnamed = Secured::start(&ours, &dir.path().join("misnamed"), "elsewhere.example");
    let foreign = roots(&other, "other.pem");
    for (secured, trusts, why) in
        [(&misnamed, &trusting, "not valid for name"), (&good, &foreign, "UnknownIssuer")]
    {
        let (asked, served) = (secured.asked(), secured.provider.served().len());
        let child = Child::start_at(&secured.url, trusts);
        for calls in 1..=2 {
            let (status, text) = call(&child, false);
            assert_eq!(status, 502, "{text}");
            for said in ["its certificate is refused", why, "SSL_CERT_FILE"] {
                assert!(text.contains(said), "{said}: {text}");
            }
            assert_eq!(secured.asked() - asked, calls, "asking again makes it no better");
        }
        assert_eq!(secured.provider.served().len(), served, "no key and no prompt got out");
    }
}
