//! What the hub's records say. A record that cannot be read says nothing; the others are read all the same.

use serde_json::Value;
use std::collections::HashMap;
use std::time::SystemTime;

/// The ids of these records.
pub fn known(records: &[Value]) -> Vec<String> {
    records.iter().filter_map(|record| id(record.get("id")?)).collect()
}

/// By id: when each job was created. Its finish is not in its record.
pub fn created(jobs: &[Value]) -> HashMap<String, SystemTime> {
    times(jobs, |job| job.get("id"), "created_on")
}

/// By job: when the last of its queue entries finished.
pub fn entries_finished(entries: &[Value]) -> HashMap<String, SystemTime> {
    let job = |entry: &Value| {
        // A nested record, or the bare id, as the server's version has it.
        let nested = entry.get("job");
        let id = nested.and_then(|job| job.get("id").or(Some(job))).or_else(|| entry.get("job_id"));
        id.and_then(self::id)
    };
    let mut newest: HashMap<String, SystemTime> = HashMap::new();
    for entry in entries {
        let (Some(id), Some(at)) = (job(entry), entry.get("finished_on").and_then(time)) else { continue };
        let known = newest.entry(id).or_insert(at);
        *known = at.max(*known);
    }
    newest
}

/// By id: when each special task finished.
pub fn finished_tasks(tasks: &[Value]) -> HashMap<String, SystemTime> {
    times(tasks, |task| task.get("id"), "time_finished")
}

fn times(records: &[Value], of: impl Fn(&Value) -> Option<&Value>, key: &str) -> HashMap<String, SystemTime> {
    let one = |record: &Value| Some((id(of(record)?)?, time(record.get(key)?)?));
    records.iter().filter_map(one).collect()
}

/// An id, a number or its digits.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(text.clone()),
        _ => None,
    }
}

/// A time without a zone, in that of this machine, `2014-09-04 13:09:35` or with a `T` and fractions. Of the two
/// that an hour has which summer time repeats, the later: nothing becomes older than it is.
fn time(value: &Value) -> Option<SystemTime> {
    let civil: jiff::civil::DateTime = value.as_str()?.parse().ok()?;
    let zone = jiff::tz::TimeZone::system();
    zone.into_ambiguous_zoned(civil).later().ok().map(|zoned| zoned.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn times_are_read_in_every_form_that_servers_give() {
        let plain = time(&json!("2014-09-04 13:09:35")).unwrap();
        assert_eq!(time(&json!("2014-09-04T13:09:35")), Some(plain));
        assert_eq!(time(&json!("2014-09-04 13:09:35.5")), Some(plain + Duration::from_millis(500)));
        for bad in [json!(null), json!(""), json!("soon"), json!(1_409_836_175), json!("2014-13-04 13:09:35")]
        {
            assert_eq!(time(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_newest_entry_of_a_job_counts_in_any_order() {
        let entry = |job: Value, at: &str| json!({ "id": 9, "job": job, "finished_on": at });
        let entries = vec![
            entry(json!({ "id": 7 }), "2014-09-04 13:00:00"),
            entry(json!(7), "2014-09-04 15:00:00"),
            json!({ "job_id": "7", "finished_on": "2014-09-04 14:00:00" }),
            json!({ "job": { "id": 8 }, "finished_on": null }),
            json!("nonsense"),
        ];
        let newest = entries_finished(&entries);
        assert_eq!(newest.len(), 1);
        assert_eq!(newest.get("7"), time(&json!("2014-09-04 15:00:00")).as_ref());
    }

    #[test]
    fn a_record_without_a_sound_id_or_time_says_nothing() {
        let tasks = vec![
            json!({ "id": 1, "time_finished": "2014-09-04 13:00:00" }),
            json!({ "id": -1, "time_finished": "2014-09-04 13:00:00" }),
            json!({ "id": 2, "time_finished": null }),
            json!({ "time_finished": "2014-09-04 13:00:00" }),
        ];
        assert_eq!(finished_tasks(&tasks).into_keys().collect::<Vec<_>>(), ["1"]);
        assert_eq!(known(&tasks), ["1", "2"]);
    }
}
