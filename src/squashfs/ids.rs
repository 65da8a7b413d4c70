//! The table of users and groups: inodes have a number of 16 bits for each.

use std::collections::HashMap;

use super::error::WriteError;

/// Numbers of users and groups, in the order in which they were first met.
#[derive(Debug, Default)]
pub(super) struct Ids {
    numbers: HashMap<u32, u16>,
    records: Vec<u8>,
}

impl Ids {
    /// Returns what inodes have for that user or group.
    ///
    /// # Errors
    /// Where there are more than an image can store.
    pub(super) fn number(&mut self, id: u32) -> Result<u16, WriteError> {
        let next = self.numbers.len();
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        if next >= usize::from(u16::MAX) {
            return Err(WriteError::TooMany { what: "users and groups", most: u16::MAX.into() });
        }
        self.numbers.insert(id, next as u16);
        self.records.extend(id.to_le_bytes());
        Ok(next as u16)
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u16 {
        self.numbers.len() as u16
    }

    /// Returns the records of the table.
    pub(super) fn records(&self) -> &[u8] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_number_and_one_record() {
        let mut ids = Ids::default();
        let numbers = [0, 1000, 0, u32::MAX - 1, 1000].map(|id| ids.number(id).unwrap());
        assert_eq!((numbers, ids.count()), ([0, 1, 0, 2, 1], 3));
        assert_eq!(ids.records(), [0_u32, 1000, u32::MAX - 1].map(u32::to_le_bytes).concat());
    }

    #[test]
    fn more_ids_than_an_image_holds_are_refused() {
        let mut ids = Ids::default();
        for id in 0..65_535 {
            ids.number(id).unwrap();
        }
        assert_eq!(ids.number(7).unwrap(), 7);
        let error = ids.number(65_535).unwrap_err();
        assert_eq!(error.to_string(), "there are more than 65535 users and groups, the most that an image can have");
    }
}
