//! Times: milliseconds since 1970 in UTC, and what clocks on the ground showed in 2013.

/// A minute, in milliseconds.
pub const MINUTE: u64 = 60_000;
/// An hour, in milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// A day, in milliseconds.
pub const DAY: u64 = 24 * HOUR;

/// What a clock at some place shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Hours ahead of UTC in winter; negative to the west.
    pub standard: i64,
    /// Whether clocks go forward in summer, as most of the United States' do.
    pub summer: bool,
}

impl Zone {
    /// EWR, JFK and LGA.
    pub const NEW_YORK: Zone = Zone { standard: -5, summer: true };
    /// Puerto Rico and the Virgin Islands, whose airports are not in the package's list.
    pub const ATLANTIC: Zone = Zone { standard: -4, summer: false };

    /// A time as the place's clock shows it, as if that were UTC.
    pub fn local(self, at: u64) -> u64 {
        let hours = self.standard + i64::from(self.summer && is_summer(at, self.standard));
        at.saturating_add_signed(hours * HOUR as i64)
    }

    /// The minute of the day that the place's clock shows.
    pub fn minute_of_day(self, at: u64) -> u64 {
        self.local(at) % DAY / MINUTE
    }
}

/// Daylight saving time in 2013: from 2 o'clock on March 10 to 2 o'clock on November 3, local time
/// (Energy Policy Act of 2005, section 110).
fn is_summer(at: u64, standard: i64) -> bool {
    // The clock goes back from 2 o'clock, which is 1 o'clock of standard time.
    let begin = midnight(2013, 3, 10) + 2 * HOUR;
    let end = midnight(2013, 11, 3) + HOUR;
    (begin..end).contains(&at.saturating_add_signed(standard * HOUR as i64))
}

/// The beginning of a day. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
pub fn midnight(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (days - 719_468) * DAY
}

/// Year, month and day. `civil_from_days` of the same source.
fn date(at: u64) -> (u64, u64, u64) {
    let days = at / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The name of a month, from 1.
pub fn month_name(month: usize) -> &'static str {
    MONTHS[(month + 11) % 12]
}

/// A time as a New Yorker would write it: `Tue  1 Jan 2013  05:17`.
pub fn in_new_york(at: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let local = Zone::NEW_YORK.local(at);
    let (year, month, day) = date(local);
    let weekday = WEEKDAYS[(local / DAY % 7) as usize];
    let minute = local % DAY / MINUTE;
    let month = &month_name(month as usize)[..3];
    format!("{weekday} {day:>2} {month} {year}  {:02}:{:02}", minute / 60, minute % 60)
}
