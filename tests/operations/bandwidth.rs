//! What the connections of a user's TCP allocations carry, all together.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use datapath::driver::Clock;

use crate::client::SECRET;
use crate::server::Server;
use crate::tcp_client::TcpClient;

/// What each connection carries, in octets.
const LENGTH: usize = 600_000;

/// A peer that has so much for everybody, and hears the end of it.
fn peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            spawn(move || {
                let _ = stream.write_all(&[7; LENGTH]);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0]);
            });
        }
    });
    address
}

fn now() -> Instant {
    Clock::new().read().instant
}

/// Reads all that there is, and says when it was over.
fn drain(mut data: TcpStream) -> JoinHandle<Instant> {
    spawn(move || {
        let mut received = Vec::new();
        data.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), LENGTH);
        now()
    })
}

/// At a megabyte a second, of which a second's worth may pass at once, Anna's 2.4 MB take longer than 1.4 s, however
/// many connections and allocations carry them; Ben's 0.6 MB do not wait for them.
#[test]
fn a_user_has_its_bandwidth_once_and_another_has_its_own() {
    let server = Server::start(&format!(
        "relay.secrets = [\"{SECRET}\"]\nrelay.tcp_allocations = true\nrelay.allowed_peers = [\"127.0.0.1\"]\n\
         relay.limits.user_mbps = 8\nworkers = 2"
    ));
    let peers = [peer(), peer()];
    let mut clients = ["anna", "anna", "ben"].map(|user| TcpClient::allocated(server.tcp, user));
    let began = now();
    let [of_anna @ .., of_ben] = &mut clients;
    let of_anna: Vec<_> = of_anna.iter_mut().flat_map(|one| peers.map(|peer| one.connected(peer))).collect();
    let of_ben = drain(of_ben.connected(peers[0]));
    let of_anna: Vec<_> = of_anna.into_iter().map(drain).collect();
    let ben_is_done = of_ben.join().unwrap();
    let anna_is_done = of_anna.into_iter().map(|one| one.join().unwrap()).max().unwrap();
    assert!(anna_is_done - began >= Duration::from_millis(1400), "{:?}", anna_is_done - began);
    assert!(ben_is_done < anna_is_done);

    let json = server.told(&["sessions", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    let passed = told["sessions"].as_array().unwrap().iter().map(|session| &session["to_client"]);
    // Octets alone: there are no packets to count.
    let passed: Vec<_> = passed.map(|passed| (passed["packets"].as_u64(), passed["bytes"].as_u64())).collect();
    let expected = |connections: usize| (Some(0), Some((connections * LENGTH) as u64));
    assert_eq!(passed, [expected(2), expected(2), expected(1)], "{json}");
}
