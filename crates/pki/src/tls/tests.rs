use super::*;
use crate::{Issuer, PrivateKey, Refusal, Root, csr, peer_identity};
use lateen_model::{Credential, HostPattern, Secret, TrustDomain};
use rustls::{ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn id(account: &str) -> Identity {
    Identity::parse(&format!("spiffe://cluster.local/ns/shop/sa/{account}")).expect("an identity")
}

/// One mesh: an authority, and the clock of everybody.
struct Mesh {
    issuer: Issuer,
    tls: Tls,
}

impl Mesh {
    fn new() -> Self {
        let root = Root::generate(&TrustDomain::default(), now());
        let bundle = Current::new(root.bundle(TrustDomain::default()));
        Self { issuer: Issuer::new(root, DAY), tls: Tls::new(bundle, WallClock::new(now)) }
    }

    fn certify(&self, identity: &Identity, now: SystemTime) -> CertifiedIdentity {
        let key = PrivateKey::generate();
        let request = csr::Request::parse(&csr::make(&key, identity)).expect("a request");
        let issued = self.issuer.issue(&request, identity, DAY, now).expect("issued");
        CertifiedIdentity::new(issued.chain, key).expect("belongs together")
    }

    fn member(&self, account: &str) -> Current<CertifiedIdentity> {
        Current::new(self.certify(&id(account), now()))
    }
}

fn accept(accounts: &[&str]) -> Accepted {
    Accepted::Identities(accounts.iter().map(|account| id(account)).collect())
}

/// Shakes hands in memory; the first error of either side, as that side saw it.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(client, name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("writes to memory");
        server.read_tls(&mut bytes.as_slice()).expect("reads from memory");
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).expect("writes to memory");
        client.read_tls(&mut bytes.as_slice()).expect("reads from memory");
        client.process_new_packets()?;
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            return Ok((client, server));
        }
    }
    panic!("the handshake does not end");
}

fn refusal(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Refusal {
    let error = shake(client, server, "10.0.0.1").map(|_| ()).expect_err("must be refused");
    Refusal::find(&error).unwrap_or_else(|| panic!("another error: {error}"))
}

#[test]
fn both_ends_know_each_other() {
    let mesh = Mesh::new();
    let (cart, front) = (mesh.member("cart"), mesh.member("front"));
    let server = mesh.tls.server(&cart, Clients::Required, &[b"h2"]);
    for accepted in [accept(&["cart", "other"]), Accepted::OwnTrustDomain] {
        let client = mesh.tls.client(Some(&front), accepted, &[b"h2"]);
        let (client, server) = shake(client, Arc::clone(&server), "10.0.0.1").expect("shakes hands");
        let seen = |chain: Option<&[_]>| peer_identity(chain.expect("certificates"));
        assert_eq!(seen(client.peer_certificates()), Some(id("cart")));
        assert_eq!(seen(server.peer_certificates()), Some(id("front")));
        assert_eq!((client.alpn_protocol(), server.alpn_protocol()), (Some(&b"h2"[..]), Some(&b"h2"[..])));
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn a_server_that_was_not_expected_is_refused() {
    let mesh = Mesh::new();
    let (cart, front) = (mesh.member("cart"), mesh.member("front"));
    let server = || mesh.tls.server(&cart, Clients::Required, &[]);
    for accepted in [accept(&["bank"]), accept(&[])] {
        let client = mesh.tls.client(Some(&front), accepted, &[]);
        assert_eq!(refusal(client, server()), Refusal::NotExpected(id("cart")));
    }
}

#[test]
fn a_client_must_show_a_certificate_where_that_is_required() {
    let mesh = Mesh::new();
    let cart = mesh.member("cart");
    let client = || mesh.tls.client(None, accept(&["cart"]), &[]);
    assert_eq!(refusal(client(), mesh.tls.server(&cart, Clients::Required, &[])), Refusal::NoCertificate);
    let (_, server) = shake(client(), mesh.tls.server(&cart, Clients::Optional, &[]), "a").expect("comes in");
    assert!(server.peer_certificates().is_none(), "unnamed");
}

#[test]
fn strangers_are_refused_on_both_sides_even_where_certificates_are_optional() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (ours, theirs) = (mesh.member("cart"), other.member("cart"));
    let client = mesh.tls.client(Some(&ours), accept(&["cart"]), &[]);
    assert_eq!(refusal(client, other.tls.server(&theirs, Clients::Required, &[])), Refusal::UnknownIssuer);
    let believing = Tls::new(mesh.tls.bundle.clone(), WallClock::new(now));
    for clients in [Clients::Required, Clients::Optional] {
        let client = believing.client(Some(&theirs), accept(&["cart"]), &[]);
        assert_eq!(refusal(client, mesh.tls.server(&ours, clients, &[])), Refusal::UnknownIssuer);
    }
}

#[test]
fn a_foreign_trust_domain_is_refused() {
    let mesh = Mesh::new();
    let stranger = Identity::parse("spiffe://elsewhere/ns/shop/sa/cart").expect("an identity");
    let server = Current::new(mesh.certify(&stranger, now()));
    let client = mesh.tls.client(None, Accepted::Identities([stranger.clone()].into()), &[]);
    let server = mesh.tls.server(&server, Clients::Optional, &[]);
    assert_eq!(refusal(client, server), Refusal::ForeignTrustDomain(stranger));
}

#[test]
fn who_has_expired_is_refused_until_renewed_without_new_settings() {
    let mesh = Mesh::new();
    let cart = mesh.member("cart");
    let later = Tls::new(mesh.tls.bundle.clone(), WallClock::new(|| now() + DAY * 2));
    let client = || later.client(None, accept(&["cart"]), &[]);
    let server = later.server(&cart, Clients::Optional, &[]);
    assert_eq!(refusal(client(), Arc::clone(&server)), Refusal::Expired);
    cart.set(mesh.certify(&id("cart"), now() + DAY * 2));
    shake(client(), server, "a").expect("the renewed one is shown");
}

#[test]
fn a_new_root_is_believed_without_new_settings() {
    let (old, new) = (Mesh::new(), Mesh::new());
    let cart = new.member("cart");
    let client = old.tls.client(None, accept(&["cart"]), &[]);
    let server = new.tls.server(&cart, Clients::Optional, &[]);
    assert_eq!(refusal(Arc::clone(&client), Arc::clone(&server)), Refusal::UnknownIssuer);
    let mut bundle = (*old.tls.bundle.get()).clone();
    let root = new.issuer.root().certificate().clone();
    bundle.believe(TrustDomain::default(), [root]).expect("a root");
    old.tls.bundle.set(bundle);
    shake(client, server, "a").expect("the new root is believed");
}

#[test]
fn no_session_is_ever_resumed() {
    let mesh = Mesh::new();
    let (cart, front) = (mesh.member("cart"), mesh.member("front"));
    let server = mesh.tls.server(&cart, Clients::Required, &[]);
    let client = mesh.tls.client(Some(&front), accept(&["cart"]), &[]);
    for _ in 0..3 {
        let (client, server) = shake(Arc::clone(&client), Arc::clone(&server), "a.example").expect("shakes");
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

/// A certificate for a host, as a Secret would hold it, and its own certificate for clients to believe.
fn credential(host: &str, client_roots: Option<String>) -> Credential {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new([host.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    Credential {
        certificate_chain: certificate.pem().as_str().into(),
        private_key: Secret::new(key.serialize_pem()),
        client_roots: client_roots.map(|text| text.as_str().into()),
    }
}

/// Terms with these credentials.
fn terms(credentials: &[&Credential], clients: bool) -> ListenerTerms {
    let read = |credential: &&Credential| ListenerCredential::new(credential).expect("reads");
    ListenerTerms { credentials: credentials.iter().map(read).collect(), clients }
}

/// The settings of a port, and the hosts that are wrong.
fn settings<const N: usize>(
    listeners: [(&str, ListenerTerms); N],
) -> (ListenerSettings, Vec<(HostPattern, InvalidCredential)>) {
    let listeners = listeners.map(|(host, terms)| (HostPattern::parse(host).expect("a host"), terms));
    ListenerSettings::new(listeners, &WallClock::new(now), &[b"h2", b"http/1.1"])
}

#[test]
fn a_port_chooses_exact_then_longest_suffix_then_any() {
    let hosts = ["a.example.com", "*.example.com", "*.b.example.com", "*"];
    let some = credential("any", None);
    let (all, _) = settings(hosts.map(|host| (host, terms(&[&some], false))));
    let of = |host: Option<&str>| Arc::as_ptr(all.choose(host));
    let expected = |host: &str| match HostPattern::parse(host).expect("a host") {
        HostPattern::Exact(name) => of(Some(name.as_str())),
        HostPattern::Suffix(suffix) => of(Some(&format!("zzz{suffix}"))),
        HostPattern::Any => of(Some("zzz")),
    };
    for (asked, host) in [
        (Some("a.example.com"), "a.example.com"),
        (Some("A.Example.COM."), "a.example.com"),
        (Some("x.example.com"), "*.example.com"),
        (Some("x.y.example.com"), "*.example.com"),
        (Some("x.b.example.com"), "*.b.example.com"),
        (Some("example.com"), "*"),
        (None, "*"),
    ] {
        assert_eq!(of(asked), expected(host), "{asked:?}");
    }
    let different: std::collections::HashSet<_> = hosts.iter().map(|host| expected(host)).collect();
    assert_eq!(different.len(), hosts.len(), "each host has its own");
    let (few, _) = settings([("a.example.com", terms(&[&some], false))]);
    let refuses = |host| Arc::ptr_eq(few.choose(host), &few.choose(Some("nobody")).clone());
    assert!(refuses(Some("b.example.com")) && refuses(None) && !refuses(Some("a.example.com")));
}

/// A client as a browser is: roots and names.
fn browser(roots: &[&Credential]) -> Arc<ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        for certificate in crate::pem::certificates(&root.certificate_chain, 1).expect("pem") {
            store.add(certificate).expect("a root");
        }
    }
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(WallClock::new(now)));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("versions");
    Arc::new(builder.with_root_certificates(store).with_no_client_auth())
}

/// The same, showing a certificate.
fn browser_of(roots: &[&Credential], own: &Credential) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&browser(roots));
    let key = ListenerCredential::new(own).expect("reads").certified_key();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    Arc::new(config)
}

#[test]
fn a_listener_serves_who_asks_for_its_host() {
    let shop = credential("shop.example.com", None);
    let (port, wrong) = settings([("shop.example.com", terms(&[&shop], false))]);
    assert!(wrong.is_empty());
    let to = |name: &str| shake(browser(&[&shop]), Arc::clone(port.choose(Some(name))), name).map(|_| ());
    to("shop.example.com").expect("shakes hands");
    let refused = to("other.example.com").expect_err("no certificate");
    assert_eq!(Refusal::find(&refused), None, "{refused}");
}

#[test]
fn what_one_host_wants_of_its_clients_is_nothing_to_another() {
    let (ours, theirs) = (credential("ours", None), credential("theirs", None));
    let roots = |of: &Credential| Some(of.certificate_chain.as_str().to_owned());
    let (bank, shop) =
        (credential("bank.example.com", roots(&ours)), credential("shop.example.com", roots(&theirs)));
    let open = credential("open.example.com", None);
    let (port, wrong) = settings([
        ("bank.example.com", terms(&[&bank], true)),
        ("shop.example.com", terms(&[&shop], true)),
        ("open.example.com", terms(&[&open], false)),
    ]);
    assert!(wrong.is_empty());
    let all = [&bank, &shop, &open];
    let to = |name: &str, client| shake(client, Arc::clone(port.choose(Some(name))), name).map(|_| ());
    to("open.example.com", browser(&all)).expect("nobody is asked");
    to("bank.example.com", browser_of(&all, &ours)).expect("vouched for");
    to("shop.example.com", browser_of(&all, &theirs)).expect("vouched for");
    to("bank.example.com", browser(&all)).expect_err("shows none");
    to("bank.example.com", browser_of(&all, &theirs)).expect_err("the other host's client");
    to("shop.example.com", browser_of(&all, &ours)).expect_err("the other host's client");
}

#[test]
fn a_host_whose_credentials_cannot_be_used_takes_no_other() {
    let wide = credential("*.example.com", None);
    let (port, wrong) = settings([
        ("*", terms(&[&wide], false)),
        ("*.example.com", terms(&[&wide], false)),
        ("none.example.com", terms(&[], false)),
        ("bank.example.com", terms(&[&wide], true)),
    ]);
    let bank = HostPattern::parse("bank.example.com").expect("a host");
    assert_eq!(wrong, [(bank, InvalidCredential::NoClientRoots)]);
    let to = |name: &str| shake(browser(&[&wide]), Arc::clone(port.choose(Some(name))), name).map(|_| ());
    to("other.example.com").expect("has one");
    to("none.example.com").expect_err("has none");
    to("bank.example.com").expect_err("nobody could vouch for its clients");
}

#[test]
fn of_two_listeners_of_a_host_the_stricter_counts() {
    let clients = credential("clients", None);
    let roots = Some(clients.certificate_chain.as_str().to_owned());
    let (open, strict) = (credential("a.example.com", None), credential("a.example.com", roots));
    for listeners in [[false, true], [true, false]] {
        let listeners = listeners
            .map(|strictly| ("a.example.com", terms(&[if strictly { &strict } else { &open }], strictly)));
        let (port, _) = settings(listeners);
        let server = Arc::clone(port.choose(Some("a.example.com")));
        assert_eq!(refusal_at(browser(&[&strict]), server, "a.example.com"), Refusal::NoCertificate);
    }
}

fn refusal_at(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Refusal {
    let error = shake(client, server, name).map(|_| ()).expect_err("must be refused");
    Refusal::find(&error).unwrap_or_else(|| panic!("another error: {error}"))
}

#[test]
fn credentials_that_do_not_fit_are_refused() {
    let (good, other) = (credential("a", None), credential("a", None));
    let read = |change: &dyn Fn(&mut Credential)| {
        let mut credential = good.clone();
        change(&mut credential);
        ListenerCredential::new(&credential).expect_err("must be refused")
    };
    assert_eq!(read(&|c| c.certificate_chain = "".into()), InvalidCredential::Chain);
    assert_eq!(read(&|c| c.private_key = Secret::new("no")), InvalidCredential::Key);
    assert_eq!(read(&|c| c.client_roots = Some("".into())), InvalidCredential::ClientRoots);
    let mixed = read(&|c| c.private_key = other.private_key.clone());
    assert!(matches!(mixed, InvalidCredential::Pair(_)), "{mixed}");
}
