//! The job: readings with the weather of their time, sensors as agents, and spans that put them side by side.

use nekton::prelude::*;

use crate::events::{DAY, MINUTE, Reading, Sent, Weather};
use crate::sensor::{Alarm, Sensor, Status};

/// How many partitions the topic of readings has.
pub const PARTITIONS: u32 = 2;
/// A reading, or what the station says, comes at most so much later than others of its partition that were taken after it.
const BEHIND: Time = 120 * MINUTE;
/// Nothing is asked of less than this.
const STEP: Time = DAY / 4;
/// A topic that is silent for so long, of the clock, holds up nothing.
const SILENCE: Time = 60 * MINUTE;

/// A part of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Sensor(u32),
    Span(u32),
    Bridge,
}

/// What is known of the sensors of a span, or of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Together {
    /// Those that know what is usual.
    pub sensors: i64,
    /// Those of them that drift.
    pub drifting: i64,
    /// Their mean shift, in micrometres a metre.
    pub shift: OrderedFloat<f64>,
}

/// Somebody should look at a sensor, or at the span.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alert {
    pub span: u32,
    /// Since which day, in days since 1970.
    pub since: u32,
    /// In micrometres a metre.
    pub shift: Decimal<2>,
    /// The median of its span's sensors.
    pub of_span: Decimal<2>,
    /// The span does not move with it: it is the sensor, or the steel under it.
    pub alone: bool,
}

/// What the program shows at its end.
pub struct Shown {
    pub alerts: View<(u32, Alert)>,
}

/// Builds the job for spans of so many sensors each.
pub fn build(
    flow: &mut Flow<'_>,
    run: u64,
    (spans, sensors): (u32, u32),
    alarm: impl Fn(&Alarm) + 'static,
) -> Shown {
    let span = move |sensor: u32| sensor / sensors;
    let watermark = Watermark::behind(BEHIND).step(STEP).idle_after(SILENCE);

    // The weather goes to every span, so that a span's readings need not go where another one's do.
    let weather = flow.events::<Sent<Weather>>("weather").filter(move |sent| sent.run == run);
    let weather = weather.map(|sent| sent.event).event_time(|weather| weather.at, watermark);
    let weather = weather.flat_map(move |weather| (0..spans).map(move |span| (span, Some(weather.clone()))));
    let readings = flow.events::<Sent<Reading>>("readings").filter(move |sent| sent.run == run);
    let readings = readings.map(|sent| sent.event);
    let readings = readings.event_time(|reading| reading.at, watermark.partitions(PARTITIONS));

    // Whatever came when: each reading once, with the weather of its time, in the order of their times.
    let with_weather = readings.as_of("with weather", &weather, move |reading| span(reading.sensor));
    flow.sink("readings-too-late", &with_weather.late);
    let agents = with_weather.enriched.agents::<Sensor>("sensors", |(reading, _)| reading.sensor);
    flow.sink("sensors", upsert(&agents.views()));
    flow.sink("alarms", &agents.emitted().inspect(move |told| alarm(told)));

    // Spans and the bridge: sums along the links.
    let links = agents.flat_map(move |(sensor, _)| {
        [(Part::Sensor(sensor), Part::Span(span(sensor))), (Part::Span(span(sensor)), Part::Bridge)]
    });
    let known = agents.filter(|(_, status)| status.knows);
    let shares = known.clone().map(|(sensor, Status { since, shift, .. })| {
        (Part::Sensor(sensor), (i64::from(since.is_some()), shift))
    });
    let figures =
        (Count, of(|share: &(i64, Decimal<2>)| share.0, Sum), of(|share: &(i64, Decimal<2>)| share.1, Mean));
    let together = links.distinct().roll_up(shares, figures);
    let together = together.map(|(part, (sensors, drifting, shift))| {
        (part, Together { sensors: sensors as i64, drifting, shift })
    });
    flow.sink("spans", upsert(&together));

    // A sensor that drifts, beside the others of its span.
    let shifts = known.clone().map(move |(sensor, status)| (span(sensor), status.shift));
    let medians = shifts.aggregate(Quantiles::median());
    let drifting = known
        .flat_map(move |(sensor, Status { since, shift, .. })| Some((span(sensor), (sensor, since?, shift))));
    let alerts = drifting.join(medians).map(|(span, ((sensor, since, shift), median))| {
        let of_span = median.first().copied().unwrap_or_default();
        let alone = 2 * of_span.to_units().abs() < shift.to_units().abs();
        (sensor, Alert { span, since, shift, of_span, alone })
    });
    flow.sink("alerts", upsert(&alerts));
    flow.view("sensors", &agents);
    flow.view("spans", &together);
    Shown { alerts: flow.view("alerts", &alerts) }
}
