//! A run as a picture: rates, the estimate, the queue and the layers over time (SVG).

use std::fmt::Write;
use std::io;
use std::path::Path;

use super::call::{Policy, Record, Sample};
use super::scenario::Scenario;
use super::table;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;

struct Panel {
    top: f64,
    height: f64,
    max: f64,
    seconds: f64,
}

impl Panel {
    fn line(&self, out: &mut String, samples: &[Sample], colour: &str, value: impl Fn(&Sample) -> f64) {
        let mut points = String::new();
        for (index, sample) in samples.iter().enumerate() {
            let x = LEFT + index as f64 / 10.0 / self.seconds * (WIDTH - LEFT);
            let y = self.top + self.height * (1.0 - (value(sample) / self.max).clamp(0.0, 1.0));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let _ = writeln!(out, "<polyline fill='none' stroke='{colour}' stroke-width='1.2' points='{points}'/>");
    }

    fn frame(&self, out: &mut String, title: &str, unit: &str) {
        let (top, height) = (self.top, self.height);
        let _ = writeln!(
            out,
            "<rect x='{LEFT}' y='{top}' width='{}' height='{height}' fill='none' stroke='#bbb'/>\
             <text x='{LEFT}' y='{}' font-size='12'>{title}</text>\
             <text x='2' y='{}' font-size='11'>{:.0} {unit}</text>",
            WIDTH - LEFT,
            top - 4.0,
            top + 11.0,
            self.max
        );
        let mut second = 0.0;
        while second <= self.seconds {
            let x = LEFT + second / self.seconds * (WIDTH - LEFT);
            let y = top + height;
            let _ = writeln!(out, "<line x1='{x:.1}' y1='{top}' x2='{x:.1}' y2='{y}' stroke='#eee'/>");
            let _ = writeln!(out, "<text x='{x:.1}' y='{}' font-size='10'>{second}</text>", y + 11.0);
            second += 10.0;
        }
    }
}

/// Writes a plot and what it shows (CSV) into the folder, which must exist.
pub fn write(folder: &Path, scenario: &Scenario, policy: Policy, record: &Record) -> io::Result<()> {
    let file: String = format!("{} {}", scenario.name, table::name(policy))
        .to_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    let parts: Vec<&str> = file.split('-').filter(|part| !part.is_empty()).collect();
    let file = parts.join("-");
    std::fs::write(folder.join(format!("{file}.csv")), csv(record))?;
    std::fs::write(folder.join(format!("{file}.svg")), svg(scenario, policy, record))
}

/// The samples as they were taken.
fn csv(record: &Record) -> String {
    let mut out = String::from(
        "s,capacity_kbps,estimate_kbps,received_kbps,beside_kbps,tcp_kbps,queue_ms,loss_percent,copies,layer_0,layer_1,layer_2\n",
    );
    for (index, sample) in record.samples.iter().enumerate() {
        let [first, second, third] = sample.layers;
        let _ = writeln!(
            out,
            "{:.1},{},{},{},{},{},{},{:.1},{},{first},{second},{third}",
            index as f64 / 10.0,
            sample.capacity_bps / 1000,
            sample.estimate_bps / 1000,
            sample.received_bps / 1000,
            sample.beside_bps.iter().sum::<u64>() / 1000,
            sample.tcp_bps / 1000,
            sample.queue.as_millis(),
            sample.loss * 100.0,
            sample.copies
        );
    }
    out
}

fn svg(scenario: &Scenario, policy: Policy, record: &Record) -> String {
    let samples = &record.samples;
    let seconds = (samples.len() as f64 / 10.0).max(1.0);
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1020 620' font-family='sans-serif'>\n\
         <rect width='1020' height='620' fill='white'/>\
         <text x='{LEFT}' y='18' font-size='15'>{}: {}</text>\n",
        scenario.name,
        table::name(policy)
    );
    let highest = samples.iter().map(|sample| sample.received_bps).max().unwrap_or(0).max(400_000) as f64 / 1000.0;
    let rates = Panel { top: 45.0, height: 220.0, max: highest * 1.2, seconds };
    rates.frame(&mut out, "capacity (grey), estimate (blue), media received (green), TCP (orange)", "kbit/s");
    rates.line(&mut out, samples, "#999", |sample| sample.capacity_bps as f64 / 1000.0);
    rates.line(&mut out, samples, "#06c", |sample| sample.estimate_bps as f64 / 1000.0);
    rates.line(&mut out, samples, "#093", |sample| sample.received_bps as f64 / 1000.0);
    if samples.iter().any(|sample| sample.tcp_bps > 0) {
        rates.line(&mut out, samples, "#e80", |sample| sample.tcp_bps as f64 / 1000.0);
    }
    let queue = Panel { top: 310.0, height: 110.0, max: 600.0, seconds };
    queue.frame(&mut out, "queue before the link", "ms");
    queue.line(&mut out, samples, "#c30", |sample| sample.queue.as_secs_f64() * 1e3);
    let layers = Panel { top: 465.0, height: 110.0, max: 3.2, seconds };
    layers.frame(&mut out, "layers: the speaker (black), the second (blue), the third (orange)", "");
    for (video, colour) in ["#000", "#06c", "#e80"].into_iter().enumerate() {
        let shift = 0.06 * video as f64;
        layers.line(&mut out, samples, colour, |sample| f64::from(sample.layers[video]) + shift);
    }
    let mut mute = String::new();
    for (index, concealed) in record.net_eq.heard.concealed.iter().enumerate() {
        if *concealed {
            let offset =
                record.net_eq.heard.began.map_or(0.0, |at| at.saturating_duration_since(record.began).as_secs_f64());
            let x = LEFT + (offset + index as f64 / 100.0) / seconds * (WIDTH - LEFT);
            let _ = write!(mute, "M{x:.1},596v12");
        }
    }
    let _ = writeln!(
        out,
        "<text x='2' y='606' font-size='11'>concealed</text><path d='{mute}' stroke='#c0c' stroke-width='0.6'/>"
    );
    out.push_str("</svg>\n");
    out
}
