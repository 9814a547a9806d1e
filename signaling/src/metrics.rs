//! `/metrics` in Prometheus' text format. Every scrape reads the counters anew; nothing is kept between scrapes.

use std::time::Duration;

use datapath::shared_counters::Snapshot;
use datapath::{Discard, Quota, Traffic};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{CounterVec, Encoder, Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::control::Census;
use crate::links::{Distribution, LinkCensus, LinkDistributions};
use crate::matrix;
use crate::tcp::TlsCensus;

/// The text of a scrape; `None` only if two metrics have one name, which is our own mistake.
pub fn render(workers: &[Snapshot], census: Census, links: &LinkCensus, tls: Option<&TlsCensus>) -> Option<String> {
    let registry = Registry::new();
    build(&registry, workers, census).ok()?;
    build_links(&registry, links).ok()?;
    if let Some(tls) = tls {
        build_tls(&registry, tls).ok()?;
    }
    let mut families = registry.gather();
    families.extend(distributions(&links.distributions));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text).ok()?;
    String::from_utf8(text).ok()
}

fn build(registry: &Registry, workers: &[Snapshot], census: Census) -> Result<(), prometheus::Error> {
    let counter = |name: &str, help: &str, labels: &[&str]| {
        let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(vector.clone()))?;
        Ok::<_, prometheus::Error>(vector)
    };
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        let vector = IntGaugeVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(vector.clone()))?;
        Ok::<_, prometheus::Error>(vector)
    };
    for (name, help, value) in [
        ("hausruf_rooms", "Open rooms", census.rooms),
        ("hausruf_participants", "Participants of all rooms", census.participants),
        ("hausruf_signal_connections", "Open signalling connections", census.connections),
    ] {
        gauge(name, help, &[])?.with_label_values::<&str>(&[]).set(value as i64);
    }
    counter("hausruf_commands_lost_total", "Commands that found a worker's queue full", &[])?
        .with_label_values::<&str>(&[])
        .inc_by(census.commands_lost);
    counter("hausruf_slow_clients_total", "Signalling connections cut off because the client did not read", &[])?
        .with_label_values::<&str>(&[])
        .inc_by(census.slow_clients);
    if let Some(matrix) = &census.matrix {
        build_matrix(registry, matrix)?;
    }

    let labels = ["worker", "direction", "kind"];
    let packets = counter("hausruf_packets_total", "Packets by kind of traffic", &labels)?;
    let bytes = counter("hausruf_bytes_total", "UDP payload octets by kind of traffic", &labels)?;
    let discards =
        counter("hausruf_discards_total", "Received packets that went no further, by reason", &["worker", "reason"])?;
    let over_quota =
        counter("hausruf_over_quota_total", "Requests refused for a quota, by whose it is", &["worker", "quota"])?;
    let opened = counter("hausruf_relay_sockets_opened_total", "Relay sockets opened at the kernel", &["worker"])?;
    let open = gauge("hausruf_relay_sockets", "Relay sockets open now", &["worker"])?;
    let streams = gauge("hausruf_streams", "TCP connections that carry TURN or ICE now", &["worker"])?;
    let peers = gauge("hausruf_peer_connections", "TCP connections to and from peers now (RFC 6062)", &["worker"])?;
    let peers_opened =
        counter("hausruf_peer_connections_opened_total", "TCP connections to and from peers that stood", &["worker"])?;
    let peer_bytes = counter(
        "hausruf_peer_connection_bytes_total",
        "Octets that passed between clients and peers over TCP",
        &["worker", "direction"],
    )?;
    let handovers = counter("hausruf_memory_handovers_total", "Datagrams handed over in memory", &["worker"])?;
    let passed = counter(
        "hausruf_worker_handovers_total",
        "Datagrams passed on to the worker that has their call or allocation",
        &["worker"],
    )?;
    let extensions = counter(
        "hausruf_malformed_extensions_total",
        "Header extensions of RTP that could not be read: their packets went on without",
        &["worker"],
    )?;
    let missed = counter("hausruf_events_lost_total", "Events that found the signalling's queue full", &["worker"])?;
    let turns = counter("hausruf_loop_turns_total", "Turns of the worker's loop", &["worker"])?;
    let lag = CounterVec::new(
        Opts::new("hausruf_loop_lag_seconds_total", "Time for which turns of the loop kept arriving packets waiting"),
        &["worker"],
    )?;
    registry.register(Box::new(lag.clone()))?;
    let longest = GaugeVec::new(
        Opts::new("hausruf_loop_lag_longest_seconds", "The longest turn of the last second or so"),
        &["worker"],
    )?;
    registry.register(Box::new(longest.clone()))?;

    for (index, snapshot) in workers.iter().enumerate() {
        let worker = index.to_string();
        let worker = worker.as_str();
        let counters = &snapshot.counters;
        for (direction, counts) in [("in", &counters.received), ("out", &counters.sent)] {
            for (kind, count) in Traffic::ALL.iter().zip(counts) {
                let labels = [worker, direction, kind.label()];
                packets.with_label_values(&labels).inc_by(count.packets);
                bytes.with_label_values(&labels).inc_by(count.bytes);
            }
        }
        for reason in Discard::ALL {
            let labels = [worker, reason.label()];
            discards.with_label_values(&labels).inc_by(counters.discarded(*reason));
        }
        for quota in Quota::ALL {
            let count = counters.over_quota[*quota as usize];
            over_quota.with_label_values(&[worker, quota.label()]).inc_by(count);
        }
        let labels = [worker];
        opened.with_label_values(&labels).inc_by(counters.relay_sockets_opened);
        open.with_label_values(&labels).set(i64::try_from(snapshot.relay_sockets).unwrap_or(i64::MAX));
        streams.with_label_values(&labels).set(i64::try_from(snapshot.streams).unwrap_or(i64::MAX));
        peers.with_label_values(&labels).set(i64::try_from(snapshot.peer_connections).unwrap_or(i64::MAX));
        peers_opened.with_label_values(&labels).inc_by(counters.peer_connections_opened);
        peer_bytes.with_label_values(&[worker, "to_peer"]).inc_by(counters.octets_to_peers);
        peer_bytes.with_label_values(&[worker, "to_client"]).inc_by(counters.octets_to_clients);
        handovers.with_label_values(&labels).inc_by(counters.memory_handovers);
        passed.with_label_values(&labels).inc_by(counters.passed_to_workers);
        extensions.with_label_values(&labels).inc_by(counters.malformed_extensions);
        missed.with_label_values(&labels).inc_by(counters.events_lost);
        turns.with_label_values(&labels).inc_by(snapshot.lag.turns);
        lag.with_label_values(&labels).inc_by(seconds(snapshot.lag.total));
        longest.with_label_values(&labels).set(seconds(snapshot.lag.longest));
    }
    Ok(())
}

fn build_matrix(registry: &Registry, census: &matrix::Census) -> Result<(), prometheus::Error> {
    let counter = |name: &str, help: &str, label: &str, values: &[(&str, u64)]| {
        let labels: &[&str] = if label.is_empty() { &[] } else { &[label] };
        let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
        for (value, count) in values {
            let labels: &[&str] = if label.is_empty() { &[] } else { &[value] };
            vector.with_label_values(labels).inc_by(*count);
        }
        registry.register(Box::new(vector))
    };
    let gauge = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))
    };
    let transactions = [("new", census.transactions), ("repeated", census.repeated), ("refused", census.refused)];
    let name = "hausruf_appservice_transactions_total";
    counter(name, "Transactions that the homeserver pushed", "kind", &transactions)?;
    let events = [("read", census.events), ("malformed", census.malformed)];
    counter("hausruf_appservice_events_total", "Events in them", "kind", &events)?;
    if let Some(lag) = census.lag {
        let help = "From the newest event of the last transaction until it came";
        gauge("hausruf_appservice_lag_seconds", help, seconds(lag))?;
    }
    if let Some(at) = census.last_transaction {
        let name = "hausruf_appservice_last_transaction_timestamp_seconds";
        gauge(name, "When the last transaction came (Unix time)", seconds(at))?;
    }
    let help = "Tokens given to users of Matrix";
    counter("hausruf_tokens_granted_total", help, "", &[("", census.tokens.granted)])?;
    let help = "Requests for a token, or for the delegation of a leave, that were refused";
    counter("hausruf_tokens_refused_total", help, "reason", &census.tokens.refused)?;
    let help = "OpenID tokens that stay with the room and device of their first use";
    gauge("hausruf_openid_tokens_pinned", help, census.tokens.pinned as f64)?;
    let help = "Delegated leaves that are over, by outcome";
    counter("hausruf_delayed_leaves_total", help, "outcome", &census.outcomes.named())?;
    let help = "Delegated leaves that are not over";
    gauge("hausruf_delayed_leaves_pending", help, census.leaves_pending as f64)?;
    let help = "Of the pending ones, those of participants who are gone";
    gauge("hausruf_delayed_leaves_overdue", help, census.leaves_overdue as f64)?;
    let help = "Call memberships of the homeserver's users that name this server";
    gauge("hausruf_call_memberships", help, census.call_memberships as f64)?;
    let help = "Of these, those that have had no participant for a minute";
    gauge("hausruf_ghosts", help, census.ghosts as f64)?;
    let help = "Ghosts for which a delegated leave was sent";
    counter("hausruf_ghosts_ended_total", help, "", &[("", census.ghosts_ended)])?;
    let help = "Participants removed because they left the Matrix room or were removed from it";
    counter("hausruf_members_removed_total", help, "", &[("", census.removed)])?;
    let help = "Events of calls between two (m.call.*) that were seen; those of encrypted rooms cannot be";
    counter("hausruf_legacy_calls_total", help, "event", &census.legacy_calls)?;
    let help = "Pairs of user and room whose membership is known from events";
    gauge("hausruf_seen_members", help, census.members as f64)
}

fn build_links(registry: &Registry, links: &LinkCensus) -> Result<(), prometheus::Error> {
    let gauge = |name: &str, help: &str, label: &str, values: &[(&str, usize)]| {
        let labels: &[&str] = if label.is_empty() { &[] } else { &[label] };
        let vector = IntGaugeVec::new(Opts::new(name, help), labels)?;
        for (value, count) in values {
            let labels: &[&str] = if label.is_empty() { &[] } else { &[value] };
            vector.with_label_values(labels).set(*count as i64);
        }
        registry.register(Box::new(vector))
    };
    let [low, middle, high] = links.by_layer;
    let states = [("idle", links.idle), ("paused", links.paused), ("low", low), ("middle", middle), ("high", high)];
    let help = "Video subscriptions by what is sent of them; idle: not shown, muted or silent, paused: no room";
    gauge("hausruf_subscriptions", help, "state", &states)?;
    let help = "Video subscriptions that get less than they want because no more fits, but something";
    gauge("hausruf_subscriptions_lowered", help, "", &[("", links.lowered)])?;
    let help = "Audio subscriptions left out because not even audio fits";
    gauge("hausruf_voices_left_out", help, "", &[("", links.unheard)])?;
    let [poor, good, excellent] = links.by_quality;
    let qualities = [("poor", poor), ("good", good), ("excellent", excellent)];
    gauge("hausruf_connections", "Participants by the quality of their connection", "quality", &qualities)
}

fn build_tls(registry: &Registry, tls: &TlsCensus) -> Result<(), prometheus::Error> {
    let counter = |name: &str, help: &str, labels: &[&str]| {
        let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(vector.clone()))?;
        Ok::<_, prometheus::Error>(vector)
    };
    if let Some(not_after) = tls.not_after {
        let help = "When the certificate in use ends (Unix time)";
        let gauge = Gauge::new("hausruf_certificate_expiry_timestamp_seconds", help)?;
        gauge.set(seconds(not_after));
        registry.register(Box::new(gauge))?;
    }
    counter("hausruf_tls_refused_total", "TLS handshakes refused because there was no certificate", &[])?
        .with_label_values::<&str>(&[])
        .inc_by(tls.refused);
    if let Some(orders) = &tls.orders {
        let help = "Attempts to get a certificate from the ACME server, by outcome";
        let vector = counter("hausruf_acme_orders_total", help, &["outcome"])?;
        for (outcome, count) in orders {
            vector.with_label_values(&[outcome]).inc_by(*count);
        }
    }
    Ok(())
}

/// The registry's own histograms cannot be filled from counts.
fn distributions(links: &LinkDistributions) -> Vec<MetricFamily> {
    let families = [
        (
            "hausruf_subscriber_estimate_bits_per_second",
            "What links towards subscribers are believed to carry; each is counted once a second",
            &links.estimate_bps,
        ),
        (
            "hausruf_subscriber_target_bits_per_second",
            "What subscribers would be sent if everything fitted; each is counted once a second",
            &links.target_bps,
        ),
        (
            "hausruf_subscriber_queue_seconds",
            "What stands in queues towards subscribers; each is counted once a second",
            &links.queue_s,
        ),
        (
            "hausruf_round_trip_seconds",
            "Round trips to participants; each is counted once a second",
            &links.round_trip_s,
        ),
        (
            "hausruf_subscriber_loss_ratio",
            "Packets lost towards subscribers before repair; each is counted once a second",
            &links.loss_down,
        ),
        (
            "hausruf_publisher_loss_ratio",
            "Packets lost from publishers before repair; each is counted once a second",
            &links.loss_up,
        ),
        (
            "hausruf_subscriber_audio_lost_ratio",
            "Audio lost towards subscribers after repair; counted with each of their reports",
            &links.audio_lost,
        ),
    ];
    families.into_iter().map(|(name, help, distribution)| histogram(name, help, distribution)).collect()
}

fn histogram(name: &str, help: &str, distribution: &Distribution) -> MetricFamily {
    let mut below = 0;
    let buckets = distribution.bounds.iter().zip(&distribution.counts).map(|(bound, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(distribution.counts.iter().sum());
    histogram.set_sample_sum(distribution.sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::{Rate, Second};
    use crate::matrix::TokenCensus;
    use crate::matrix::delayed_leave::Outcomes;

    #[test]
    fn a_scrape_names_what_was_counted() {
        let mut snapshot = Snapshot::default();
        snapshot.counters.received(Traffic::Rtp, 1200);
        snapshot.counters.discard(Discard::UnknownSsrc);
        snapshot.counters.refuse(Quota::User);
        snapshot.counters.relay_sockets_opened = 3;
        snapshot.peer_connections = 2;
        snapshot.counters.peer_connections_opened = 4;
        snapshot.counters.octets_to_peers = 5;
        snapshot.counters.octets_to_clients = 6;
        let matrix = matrix::Census {
            lag: Some(Duration::from_millis(120)),
            outcomes: Outcomes { sent: 4, ..Outcomes::default() },
            legacy_calls: vec![("invite", 5)],
            ghosts: 6,
            tokens: TokenCensus { granted: 7, refused: vec![("not_joined", 8)], pinned: 9 },
            ..matrix::Census::default()
        };
        let census = Census { rooms: 1, participants: 2, connections: 2, matrix: Some(matrix), ..Census::default() };
        let mut links = LinkCensus { paused: 3, by_layer: [4, 5, 6], by_quality: [1, 0, 0], ..LinkCensus::default() };
        links.distributions.take(&Second {
            estimate: Rate::of_bps(180_000),
            wanted: Rate::of_bps(9_000),
            ..Second::default()
        });
        let tls = TlsCensus {
            not_after: Some(Duration::from_secs(1_803_600_000)),
            refused: 10,
            orders: Some([("issued", 11), ("failed", 12)]),
        };
        let text = render(&[snapshot], census, &links, Some(&tls)).unwrap();
        for line in [
            "hausruf_participants 2",
            "hausruf_bytes_total{direction=\"in\",kind=\"rtp\",worker=\"0\"} 1200",
            "hausruf_discards_total{reason=\"unknown_ssrc\",worker=\"0\"} 1",
            "hausruf_over_quota_total{quota=\"user\",worker=\"0\"} 1",
            "hausruf_relay_sockets_opened_total{worker=\"0\"} 3",
            "hausruf_peer_connections{worker=\"0\"} 2",
            "hausruf_peer_connections_opened_total{worker=\"0\"} 4",
            "hausruf_peer_connection_bytes_total{direction=\"to_peer\",worker=\"0\"} 5",
            "hausruf_peer_connection_bytes_total{direction=\"to_client\",worker=\"0\"} 6",
            "hausruf_appservice_lag_seconds 0.12",
            "hausruf_delayed_leaves_total{outcome=\"sent\"} 4",
            "hausruf_legacy_calls_total{event=\"invite\"} 5",
            "hausruf_ghosts 6",
            "# TYPE hausruf_subscriber_estimate_bits_per_second histogram",
            "hausruf_subscriber_estimate_bits_per_second_bucket{le=\"50000\"} 0",
            "hausruf_subscriber_estimate_bits_per_second_bucket{le=\"200000\"} 1",
            "hausruf_subscriber_estimate_bits_per_second_bucket{le=\"+Inf\"} 1",
            "hausruf_subscriber_estimate_bits_per_second_count 1",
            "hausruf_subscriptions{state=\"paused\"} 3",
            "hausruf_subscriptions{state=\"high\"} 6",
            "hausruf_connections{quality=\"poor\"} 1",
            "hausruf_certificate_expiry_timestamp_seconds 1803600000",
            "hausruf_tls_refused_total 10",
            "hausruf_acme_orders_total{outcome=\"failed\"} 12",
            "hausruf_tokens_granted_total 7",
            "hausruf_tokens_refused_total{reason=\"not_joined\"} 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
