//! Dead letters as records of a topic: the payload as it was, and in headers what is wrong with it
//! and where it came from.

use gear_core::api::DeadLetter;

use super::payload::Payload;
use super::segment::Outgoing;
use crate::kafka::record::Message;
use crate::kafka::source::place;

/// The header with the operator that refused the record.
pub const OPERATOR: &str = "gear.operator";
/// The header with the error, or the message of the panic.
pub const REASON: &str = "gear.reason";
/// The header with the name of the record's type: what the value is, if the operator read neither
/// bytes nor text nor a [`Message`].
pub const RECORD_TYPE: &str = "gear.record-type";
/// The header with the topic that the record was read from.
pub const TOPIC: &str = "gear.topic";
/// The header with the record's partition there, in decimal.
pub const PARTITION: &str = "gear.partition";
/// The header with the record's offset there, in decimal.
pub const OFFSET: &str = "gear.offset";
/// The header with the partition of a source other than Kafka's, as the source calls it.
pub const SOURCE: &str = "gear.source";
/// The header with the position there, as the source prints it.
pub const POSITION: &str = "gear.position";

/// All of them.
const ALL: [&str; 8] = [OPERATOR, REASON, RECORD_TYPE, TOPIC, PARTITION, OFFSET, SOURCE, POSITION];

/// A dead letter, with the headers [`OPERATOR`], [`REASON`] and [`RECORD_TYPE`].
///
/// Of a [`Message`] it has the key, the value, the time and the headers, and [`TOPIC`],
/// [`PARTITION`] and [`OFFSET`] say where it was: so does what the Kafka source itself could not
/// read. Of bytes and text it has the value alone, of any other record the engine's encoding. What
/// another source could not read has [`SOURCE`] and [`POSITION`].
impl Payload for DeadLetter<'static> {
    fn fill(letter: DeadLetter<'_>, record: &mut Outgoing) {
        if let Some(message) = letter.record::<Message<'static>>() {
            fill_message(&message, record);
        } else {
            record.value(letter.payload());
            if let Some((of, offset)) = place(letter.partition, letter.position) {
                placed(&of.topic, of.partition, offset, record);
            } else if !letter.partition.is_empty() {
                record.header(SOURCE, Some(letter.partition.as_bytes()));
                record.header(POSITION, Some(letter.position.as_bytes()));
            }
        }
        record.header(OPERATOR, Some(letter.operator.as_bytes()));
        record.header(REASON, Some(letter.reason.as_bytes()));
        record.header(RECORD_TYPE, Some(letter.record_type.as_bytes()));
    }
}

fn fill_message(message: &Message<'_>, record: &mut Outgoing) {
    if let Some(key) = message.key {
        record.key(key);
    }
    if let Some(value) = message.value {
        record.value(value);
    }
    if let Some(at) = message.timestamp {
        record.timestamp(at);
    }
    // One that was a dead letter before, and was given once more, is not to grow each time.
    for header in message.headers.iter().filter(|header| !ALL.contains(&header.name)) {
        record.header(header.name, header.value);
    }
    placed(message.topic, message.partition, message.offset, record);
}

fn placed(topic: &str, partition: u32, offset: u64, record: &mut Outgoing) {
    record.header(TOPIC, Some(topic.as_bytes()));
    record.header(PARTITION, Some(partition.to_string().as_bytes()));
    record.header(OFFSET, Some(offset.to_string().as_bytes()));
}

#[cfg(test)]
mod tests {
    use gear_core::api::record::type_name;
    use gear_core::api::{Record, Ref};
    use gear_core::time::EventTime;

    use super::*;
    use crate::kafka::record::{Header, Headers};
    use crate::kafka::sink::segment::{Records, append};

    /// What a dead letter comes to: key, value, milliseconds, and headers as text.
    #[derive(Debug, PartialEq, Eq)]
    struct Sent {
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        timestamp: Option<i64>,
        headers: Vec<(String, String)>,
    }

    fn sent<T: Record>(view: &T::View<'_>, (partition, position): (&str, &str)) -> Sent {
        let (mut bytes, record_type) = (Vec::new(), type_name::<T>());
        T::encode(view, &mut bytes);
        let at = EventTime::from_seconds(5);
        let letter = DeadLetter {
            operator: "parse",
            reason: "no number",
            partition,
            position,
            at,
            record_type: &record_type,
            bytes: &bytes,
        };
        let mut record = Outgoing::default();
        record.clear(at, 1);
        <DeadLetter<'static> as Payload>::fill(letter, &mut record);
        let mut segment = Vec::new();
        append(&mut segment, &record);
        let stored = Records::new(&segment, 0).unwrap().take_next().unwrap().unwrap();
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        Sent {
            key: stored.key.map(<[u8]>::to_vec),
            value: stored.value.map(<[u8]>::to_vec),
            timestamp: stored.timestamp,
            headers: stored.headers.iter().map(|it| (it.name.into(), text(it.value))).collect(),
        }
    }

    fn headers(pairs: &[(&str, &str)], record_type: &str) -> Vec<(String, String)> {
        let last = [(OPERATOR, "parse"), (REASON, "no number"), (RECORD_TYPE, record_type)];
        let all = pairs.iter().chain(&last);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_message_is_sent_as_it_was_and_says_where_that_was() {
        let mut encoded = Vec::new();
        for (name, value) in [("trace", "7"), (REASON, "an earlier one"), ("trace", "8")] {
            Headers::put(Header { name, value: Some(value.as_bytes()) }, &mut encoded);
        }
        let message = Message {
            key: Some(b"k"),
            value: Some(b"\xff"),
            timestamp: Some(EventTime::from_millis(77)),
            headers: Headers::decode(&encoded).unwrap(),
            topic: "events",
            partition: 3,
            offset: 17,
        };
        let own = [("trace", "7"), ("trace", "8")];
        let placed = [(TOPIC, "events"), (PARTITION, "3"), (OFFSET, "17")];
        let expected = Sent {
            key: Some(b"k".to_vec()),
            value: Some(b"\xff".to_vec()),
            timestamp: Some(77),
            headers: headers(&[&own[..], &placed].concat(), "kafka.Message"),
        };
        assert_eq!(sent::<Message<'static>>(&message, ("", "")), expected);
        // One that deletes its key still does so for whoever reads the dead letters.
        let deletes = Message { value: None, timestamp: None, ..message };
        let is = sent::<Message<'static>>(&deletes, ("", ""));
        assert_eq!((is.value, is.timestamp), (None, Some(5_000)));
    }

    #[test]
    fn the_value_is_the_payload_whatever_was_read() {
        let is = sent::<Ref<str>>(&"seven", ("", ""));
        let value = Some(b"seven".to_vec());
        let headers = headers(&[], &type_name::<Ref<str>>());
        assert_eq!(is, Sent { key: None, value, timestamp: Some(5_000), headers });
        let mut encoded = Vec::new();
        <(u64, Ref<str>)>::encode(&(7, "x"), &mut encoded);
        assert_eq!(sent::<(u64, Ref<str>)>(&(7, "x"), ("", "")).value, Some(encoded));
    }

    #[test]
    fn what_a_source_could_not_read_says_where_it_is() {
        let of = |place| sent::<Ref<[u8]>>(&b"\xff".as_slice(), place);
        let is = of(("a#b#3", "a#b#3:17"));
        let bytes = type_name::<Ref<[u8]>>();
        let placed = [(TOPIC, "a#b"), (PARTITION, "3"), (OFFSET, "17")];
        assert_eq!((is.value, is.headers), (Some(b"\xff".to_vec()), headers(&placed, &bytes)));
        for (source, position) in [("in.txt#0-90", "in.txt:17"), ("t#3", "t#4:1"), ("t#3", "t#3:x")]
        {
            let named = [(SOURCE, source), (POSITION, position)];
            assert_eq!(of((source, position)).headers, headers(&named, &bytes), "{position}");
        }
    }
}
