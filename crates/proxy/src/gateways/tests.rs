//! Ports of a gateway by its resources, one worker's side of them in hand.

use std::sync::Arc;

use lateen_engine::Compiler;
use lateen_model::{Delta, Entry, Gateway, Namespace, Origin, ProxyRole, Resource, Selector, Str};

use super::*;
use crate::tests::mesh::viewer;

fn gateway(ports: &[(u16, ListenerProtocol)]) -> Arc<Entry> {
    let key = Key::new(Origin::Gateway, Namespace::default(), "front");
    let listener = |&(port, protocol): &(u16, ListenerProtocol)| Listener {
        name: Str::from(format!("p{port}")),
        port,
        protocol,
        hosts: Vec::new(),
        tls: None,
    };
    let gateway = Gateway {
        key: key.clone(),
        selector: Selector::default(),
        selector_namespace: None,
        listeners: ports.iter().map(listener).collect(),
    };
    Arc::new(Entry::for_everyone(key, Resource::Gateway(gateway)))
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).expect("bind");
    socket.local_addr().expect("an address").port()
}

struct Fixture {
    gateways: Gateways,
    compiler: Compiler,
    opened: mpsc::UnboundedReceiver<Opened>,
    listening: watch::Receiver<Vec<Bound>>,
}

impl Fixture {
    fn new() -> Self {
        let (worker, opened) = mpsc::unbounded_channel();
        let (tell, listening) = watch::channel(Vec::new());
        let gateways = Gateways::new(Opener::Here, vec![worker], Clock::system(), tell);
        Self { gateways, compiler: Compiler::new(viewer("front", ProxyRole::Gateway)), opened, listening }
    }

    async fn set(&mut self, ports: &[(u16, ListenerProtocol)]) -> bool {
        let snapshot = self.compiler.apply(&Delta { set: vec![gateway(ports)], removed: Vec::new() });
        self.gateways.reconcile(&snapshot).await
    }

    /// The listeners that were opened since, by port (IPv4 only), and what they are for.
    fn opened(&mut self) -> BTreeMap<u16, Opened> {
        let mut all = BTreeMap::new();
        while let Ok(opened) = self.opened.try_recv() {
            let address = opened.listener.local_addr().expect("an address");
            if address.is_ipv4() {
                all.insert(address.port(), opened);
            }
        }
        all
    }
}

#[tokio::test]
async fn ports_open_change_and_close_with_the_resources() {
    let mut fixture = Fixture::new();
    let (first, second) = (free_port(), free_port());
    assert!(fixture.set(&[(first, ListenerProtocol::Http), (1, ListenerProtocol::Tcp)]).await);
    let mut opened = fixture.opened();
    let first_opened = opened.remove(&first).expect("opened");
    assert!(opened.is_empty(), "{:?}", opened.keys());
    assert!(
        matches!(&*first_opened.doors.borrow(), Some(Door::Gateway { port, tls: None }) if *port == first)
    );

    // A second port; the first becomes TLS without being opened again.
    assert!(fixture.set(&[(first, ListenerProtocol::Https), (second, ListenerProtocol::Http)]).await);
    assert_eq!(fixture.opened().keys().copied().collect::<Vec<_>>(), [second]);
    assert!(matches!(&*first_opened.doors.borrow(), Some(Door::Gateway { tls: Some(_), .. })));
    assert_eq!(fixture.listening.borrow().len(), 2);

    assert!(fixture.set(&[(second, ListenerProtocol::Http)]).await);
    assert!(first_opened.doors.borrow().is_none(), "told to close");
    assert_eq!(fixture.listening.borrow().len(), 1);
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_again_and_stops_no_other() {
    let mut fixture = Fixture::new();
    let taken = TcpListener::bind("0.0.0.0:0").expect("bind");
    let (port, other) = (taken.local_addr().expect("an address").port(), free_port());
    let both = [(port, ListenerProtocol::Http), (other, ListenerProtocol::Http)];
    assert!(!fixture.set(&both).await);
    assert_eq!(fixture.opened().keys().copied().collect::<Vec<_>>(), [other]);
    drop(taken);
    assert!(fixture.set(&both).await);
    assert_eq!(fixture.opened().keys().copied().collect::<Vec<_>>(), [port]);
}
