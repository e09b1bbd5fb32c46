use super::*;
use crate::root::set_validity;
use crate::{Issuer, PrivateKey, Root, csr};
use lateen_model::TrustDomain;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn identity(text: &str) -> Identity {
    Identity::parse(text).expect("an identity")
}

fn root() -> Root {
    Root::generate(&TrustDomain::default(), now())
}

/// A certificate for the cart, changed as told, signed by `root`.
fn leaf(root: &Root, change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now() - DAY, now() + DAY);
    params.subject_alt_names = vec![uri(CART)];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let signer = root.signer().expect("signs");
    vec![params.signed_by(&PrivateKey::generate(), &signer).expect("signed").der().clone()]
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ascii"))
}

fn check(root: &Root, chain: &[CertificateDer<'_>]) -> Result<Identity, Refusal> {
    let bundle = root.bundle(TrustDomain::default());
    let both = [Usage::Server, Usage::Client].map(|usage| verify(chain, usage, &bundle, now()));
    assert_eq!(both[0], both[1], "both uses agree");
    both[0].clone()
}

#[test]
fn the_right_certificate_names_its_owner() {
    let root = root();
    assert_eq!(check(&root, &leaf(&root, |_| {})), Ok(identity(CART)));
    let request =
        csr::Request::parse(&csr::make(&PrivateKey::generate(), &identity(CART))).expect("a request");
    let issuer = Issuer::new(root, DAY);
    let issued = issuer.issue(&request, &identity(CART), DAY, now()).expect("issued");
    assert_eq!(check(issuer.root(), &issued.chain), Ok(identity(CART)));
    assert_eq!(peer_identity(&issued.chain), Some(identity(CART)));
}

#[test]
fn names_must_be_one_spiffe_id() {
    let root = root();
    let names = |names: Vec<SanType>| check(&root, &leaf(&root, |params| params.subject_alt_names = names));
    assert_eq!(names(vec![]), Err(Refusal::NoIdentity));
    assert_eq!(
        names(vec![SanType::DnsName("cart.shop".try_into().expect("ascii"))]),
        Err(Refusal::NoIdentity)
    );
    assert_eq!(names(vec![uri(CART), uri("https://example.com")]), Err(Refusal::SeveralIdentities));
    assert_eq!(
        names(vec![uri("https://example.com")]),
        Err(Refusal::WrongIdentity("https://example.com".into()))
    );
    let foreign = "spiffe://elsewhere/ns/shop/sa/cart";
    assert_eq!(names(vec![uri(foreign)]), Err(Refusal::ForeignTrustDomain(identity(foreign))));
}

#[test]
fn an_alias_of_our_domain_is_believed() {
    let root = root();
    let old = "spiffe://old.local/ns/shop/sa/cart";
    let chain = leaf(&root, |params| params.subject_alt_names = vec![uri(old)]);
    let bundle = root.bundle(TrustDomain::default()).with_aliases([identity(old).trust_domain]);
    assert_eq!(verify(&chain, Usage::Client, &bundle, now()), Ok(identity(old)));
}

#[test]
fn another_domain_cannot_speak_for_ours() {
    let (ours, theirs) = (root(), root());
    let elsewhere = TrustDomain::parse("elsewhere").expect("a trust domain");
    let mut bundle = ours.bundle(TrustDomain::default());
    bundle.believe(elsewhere, [theirs.certificate().clone()]).expect("a root");
    // Their root signs somebody of our domain.
    let refused = verify(&leaf(&theirs, |_| {}), Usage::Client, &bundle, now());
    assert_eq!(refused, Err(Refusal::UnknownIssuer));
    let them = "spiffe://elsewhere/ns/shop/sa/cart";
    let chain = leaf(&theirs, |params| params.subject_alt_names = vec![uri(them)]);
    assert_eq!(verify(&chain, Usage::Client, &bundle, now()), Ok(identity(them)));
}

#[test]
fn time_and_use_count() {
    let root = root();
    let between = |from, to| check(&root, &leaf(&root, |params| set_validity(params, from, to)));
    assert_eq!(between(now() - DAY * 2, now() - DAY), Err(Refusal::Expired));
    assert_eq!(between(now() + DAY, now() + DAY * 2), Err(Refusal::NotYetValid));
    let usages = |usages: Vec<_>| leaf(&root, |params| params.extended_key_usages = usages);
    assert_eq!(check(&root, &usages(vec![ExtendedKeyUsagePurpose::CodeSigning])), Err(Refusal::WrongUsage));
    assert_eq!(check(&root, &usages(vec![])), Ok(identity(CART)), "no use named is any use");
    let bundle = root.bundle(TrustDomain::default());
    let server_only = usages(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(verify(&server_only, Usage::Client, &bundle, now()), Err(Refusal::WrongUsage));
    assert_eq!(verify(&server_only, Usage::Server, &bundle, now()), Ok(identity(CART)));
}

#[test]
fn only_a_chain_to_a_believed_root_counts() {
    let (root, other) = (root(), root());
    assert_eq!(check(&root, &leaf(&other, |_| {})), Err(Refusal::UnknownIssuer));
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(CART)];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let own = params.self_signed(&PrivateKey::generate()).expect("signed");
    assert_eq!(check(&root, &[own.der().clone()]), Err(Refusal::UnknownIssuer));
    let authority =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert_eq!(check(&root, &leaf(&root, authority)), Err(Refusal::AuthorityAsPeer));
    assert_eq!(check(&root, &[]), Err(Refusal::NoCertificate));
    assert_eq!(check(&root, &[CertificateDer::from(vec![1, 2, 3])]), Err(Refusal::Malformed));
    let many = vec![leaf(&root, |_| {}).remove(0); MAX_CHAIN + 1];
    assert!(matches!(check(&root, &many), Err(Refusal::Other(_))));
}

#[test]
fn a_leaf_cannot_sign_for_others() {
    let root = root();
    let key = PrivateKey::generate();
    let request = csr::Request::parse(&csr::make(&key, &identity(CART))).expect("a request");
    let issuer = Issuer::new(root, DAY);
    let cart = issuer.issue(&request, &identity(CART), DAY, now()).expect("issued").chain.remove(0);
    let signer = rcgen::Issuer::from_ca_cert_der(&cart, &key).expect("a signer");
    let mut params = CertificateParams::default();
    set_validity(&mut params, now() - DAY, now() + DAY);
    params.subject_alt_names = vec![uri("spiffe://cluster.local/ns/bank/sa/vault")];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let forged = params.signed_by(&PrivateKey::generate(), &signer).expect("signed").der().clone();
    let refused = check(issuer.root(), &[forged, cart]).expect_err("a leaf is no authority");
    assert!(matches!(refused, Refusal::Other(_) | Refusal::UnknownIssuer), "{refused}");
}

#[test]
fn a_root_rolls_while_both_are_believed() {
    let (old, new) = (root(), root());
    let mut bundle = old.bundle(TrustDomain::default());
    bundle.believe(TrustDomain::default(), [new.certificate().clone()]).expect("a root");
    for root in [&old, &new] {
        assert_eq!(verify(&leaf(root, |_| {}), Usage::Server, &bundle, now()), Ok(identity(CART)));
    }
}

#[test]
fn a_refusal_is_found_in_the_error_of_a_handshake() {
    for refusal in [
        Refusal::NoCertificate,
        Refusal::Malformed,
        Refusal::Expired,
        Refusal::NotYetValid,
        Refusal::UnknownIssuer,
        Refusal::AuthorityAsPeer,
        Refusal::NotExpected(identity(CART)),
    ] {
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, refusal.clone().into_tls());
        assert_eq!(Refusal::find(&wrapped), Some(refusal));
    }
    assert_eq!(Refusal::find(&std::io::Error::other("something else")), None);
}
