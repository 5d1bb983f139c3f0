//! Days and clock times (UTC) of milliseconds since 1970.

use nekton::Time;

/// Milliseconds of a day.
pub const DAY: Time = 86_400_000;

/// The day: `2015-07-14`.
pub fn day(time: Time) -> String {
    let (year, month, day) = date(time / DAY);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The minute: `21:20`.
pub fn clock(time: Time) -> String {
    let minute = minute(time);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// The minute of the day.
pub fn minute(time: Time) -> u64 {
    time % DAY / 60_000
}

/// The hour of the day.
pub fn hour(time: Time) -> u64 {
    time % DAY / 3_600_000
}

/// Year, month and day of a number of days since 1970, in years that begin in March, so that the day that comes every four years is
/// their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 1 March of the year 0
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + later, month, day)
}
