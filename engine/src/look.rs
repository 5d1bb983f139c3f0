//! How a view is to be shown: a map, charts. Told by the program, drawn by whoever shows views.

use serde::Serialize;

use crate::view::View;

/// The most charts of a view; further ones are not shown.
pub const MOST_CHARTS: usize = 12;

/// How the program wants a view to be shown: [`View::map`], [`View::chart`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Where its records are, if they are somewhere.
    pub map: Option<Map>,
    /// What is drawn of it, in this order.
    pub charts: Vec<Chart>,
}

/// A map of a view's records.
///
/// Fields are named as they are in the records' JSON: `lat`; `at.lat` for the field `lat` of the field `at`; `key` for the
/// key; `value` for a value without fields; `0` for the first element of a tuple. A name that no record has is told where
/// the map would be.
///
/// ```
/// # use nekton_engine::Map;
/// // Planes, where they are, each with a line to where it goes.
/// Map::at("lat", "lon").colour("delay").label("flight").to("to.lat", "to.lon");
/// // Planes on their way from one place to another.
/// Map::at("from.lat", "from.lon").to("to.lat", "to.lon").moving("departed", "due");
/// // Machines in a hall.
/// Map::plane("x", "y").colour("state").links("feeds");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "a map is shown once a view has it: flow.view(..).map(..)"]
pub struct Map {
    x: String,
    y: String,
    /// Degrees on the Earth, rather than a plane.
    earth: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moving: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    colour: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<String>,
}

impl Map {
    fn new(x: &str, y: &str, earth: bool) -> Self {
        let (x, y) = (x.to_owned(), y.to_owned());
        Map { x, y, earth, to: None, moving: None, colour: None, size: None, label: None, links: None }
    }

    /// A map of the Earth, from the fields with latitude and longitude in degrees, north and east being positive.
    pub fn at(latitude: &str, longitude: &str) -> Self {
        Map::new(longitude, latitude, true)
    }

    /// A plane without outlines, `x` to the right and `y` upwards, in whatever unit.
    pub fn plane(x: &str, y: &str) -> Self {
        Map::new(x, y, false)
    }

    /// Draws a line from each record's place to another one, given as the first one is: latitude and longitude, or x and y.
    pub fn to(mut self, latitude: &str, longitude: &str) -> Self {
        let (first, second) = (latitude.to_owned(), longitude.to_owned());
        self.to = Some(if self.earth { (second, first) } else { (first, second) });
        self
    }

    /// Lets the record's point move along the line [`to`](Map::to) the other place, between two times in the records, in
    /// milliseconds since 1970. It is now what the newest `departed` of all records says.
    pub fn moving(mut self, departed: &str, arrives: &str) -> Self {
        self.moving = Some((departed.to_owned(), arrives.to_owned()));
        self
    }

    /// Colours by a field: numbers from the least to the greatest, anything else a colour for each of its values.
    pub fn colour(mut self, field: &str) -> Self {
        self.colour = Some(field.to_owned());
        self
    }

    /// Makes points as large as a field, a number of 0 or more, says: their areas are in proportion.
    pub fn size(mut self, field: &str) -> Self {
        self.size = Some(field.to_owned());
        self
    }

    /// What a point is called besides its key.
    pub fn label(mut self, field: &str) -> Self {
        self.label = Some(field.to_owned());
        self
    }

    /// Draws lines to the records of this view whose keys are in a field: a key, or an array of keys.
    pub fn links(mut self, field: &str) -> Self {
        self.links = Some(field.to_owned());
        self
    }
}

/// A chart of a view's records. Fields are named as those of a [`Map`] are. Time series begin when a page is opened.
///
/// ```
/// # use nekton_engine::Chart;
/// Chart::sum("aloft").by("carrier").titled("Planes aloft");
/// Chart::histogram("delay").unit("min");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "a chart is shown once a view has it: flow.view(..).chart(..)"]
pub struct Chart {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Count,
    Sum,
    Mean,
    Lines,
    Histogram,
    Bars,
    Sparks,
    Against,
}

impl Chart {
    fn new(kind: Kind, field: Option<&str>) -> Self {
        Chart { kind, field: field.map(str::to_owned), actual: None, by: None, title: None, unit: None }
    }

    /// How many records there are, in time.
    pub fn count() -> Self {
        Chart::new(Kind::Count, None)
    }

    /// The sum of a field over all records, in time.
    pub fn sum(field: &str) -> Self {
        Chart::new(Kind::Sum, Some(field))
    }

    /// The mean of a field over all records, in time.
    pub fn mean(field: &str) -> Self {
        Chart::new(Kind::Mean, Some(field))
    }

    /// A field of each record, in time: a line for each of the 12 that are greatest.
    pub fn lines(field: &str) -> Self {
        Chart::new(Kind::Lines, Some(field))
    }

    /// How many records have which values of a field, now.
    pub fn histogram(field: &str) -> Self {
        Chart::new(Kind::Histogram, Some(field))
    }

    /// A field of each record as a bar, the 20 greatest first, now.
    pub fn bars(field: &str) -> Self {
        Chart::new(Kind::Bars, Some(field))
    }

    /// A column of the table with a small line for each record: a field of it, in time.
    pub fn sparks(field: &str) -> Self {
        Chart::new(Kind::Sparks, Some(field))
    }

    /// What was predicted, and what happened: of one agent both in time, of the view how far they are apart, as a mean.
    pub fn against(predicted: &str, actual: &str) -> Self {
        Chart { actual: Some(actual.to_owned()), ..Chart::new(Kind::Against, Some(predicted)) }
    }

    /// Makes a line of its own for each value of a field, for the 12 greatest: of counts, sums and means.
    pub fn by(mut self, field: &str) -> Self {
        self.by = Some(field.to_owned());
        self
    }

    /// What stands above it, instead of the field's name.
    pub fn titled(mut self, title: &str) -> Self {
        self.title = Some(title.to_owned());
        self
    }

    /// What its numbers are numbers of: `min`, `km/h`.
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.to_owned());
        self
    }
}

impl<D> View<D> {
    /// Shows the records on a map, for whoever [shows views](crate::Watched): the page of a job, for one. Instead of an
    /// earlier map. Costs nothing while nobody looks.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use nekton_engine::{Chart, Map};
    ///
    /// # job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64)])]);
    /// # let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
    /// let places = sensors.map(|(sensor, celsius)| (sensor, (40 + sensor as i64, -70, celsius)));
    /// flow.view("places", &places)
    ///     .map(Map::at("0", "1").colour("2"))
    ///     .chart(Chart::histogram("2").unit("°C"));
    /// # });
    /// ```
    pub fn map(self, map: Map) -> Self {
        self.looking(|look| look.map = Some(map))
    }

    /// Adds a chart of the records, as [`map`](View::map) does a map. At most [`MOST_CHARTS`] are shown.
    pub fn chart(self, chart: Chart) -> Self {
        // Each worker says the same.
        self.looking(|look| {
            if !look.charts.contains(&chart) && look.charts.len() < MOST_CHARTS {
                look.charts.push(chart);
            }
        })
    }
}
