//! Each fuzz target with the same inputs each time; more of them with `SWARM_FUZZ_FACTOR`.

use swarm_fuzz::{TARGETS, check};

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), tested);
        }
    };
}

targets! {
    bencode metainfo magnet
    messages handshake extensions hash_exchange
    mse utp_packet utp_socket
    dht_message dht_node
    tracker_http tracker_udp tracker_state
    lsd port_mapping proxy
    ip_filter resume web_seed
}
