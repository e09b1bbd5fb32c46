//! How long a saved file takes to reach a proxy. A measurement, to be asked for by name.

use std::time::{Duration, Instant};

use crate::common::Home;
use crate::proxies::service;
use crate::proxy::Bootstrap;

#[tokio::test]
#[ignore = "a measurement: cargo test -p lateen-control -- --ignored --nocapture measure"]
async fn a_saved_file_reaches_a_proxy_soon() {
    let home = Home::new();
    for n in 0..100 {
        home.write(&format!("s{n}.yaml"), &service(&format!("s{n}"), 80));
    }
    let plane = home.start().await;
    let mut proxy =
        Bootstrap::fetch(&home, "spiffe://cluster.local/ns/shop/sa/cart").await.join("cart-0").await;
    proxy.next().await;
    let mut times = Vec::new();
    for n in 0..200u16 {
        let saved = Instant::now();
        home.write("s7.yaml", &service("s7", 1000 + n));
        proxy.next().await;
        times.push(saved.elapsed());
    }
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("save to proxy: median {median:?}, p99 {most:?}");
    assert!(median < Duration::from_millis(50), "{median:?}");
    plane.stop().await;
}
