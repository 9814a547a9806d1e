//! The dependency descriptor, an RTP header extension (RTP Payload Format For AV1, Appendix A): which temporal layer a
//! frame is of, where the payload does not say so.
//!
//! A keyframe brings a structure with templates, and every packet names the template that its frame follows. [`Templates`]
//! keeps those of one RTP stream, and [`Templates::read`] reads a packet's descriptor by them. What else a descriptor may
//! say (the frames that a frame refers to, chains, which decode targets are active) is passed over.

/// Appendix A.8.2: a template id has six bits, a count of decode targets five.
const TEMPLATES_MAX: usize = 64;
const TARGETS_MAX: usize = 32;
/// As in AV1, where the ids of temporal and of spatial layers have three and two bits.
const TEMPORAL_ID_MAX: u8 = 7;
const SPATIAL_ID_MAX: u8 = 3;

/// Table A.1, decode target indications: the frame is no part of the target; what follows of the target is decodable to
/// whom this frame is.
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;

/// What one packet says of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyDescriptor {
    pub start_of_frame: bool,
    pub end_of_frame: bool,
    pub frame_number: u16,
    /// 0-3.
    pub spatial_id: u8,
    /// 0-7.
    pub temporal_id: u8,
    /// To whom this frame is decodable, all that follows is up to this temporal layer (A.7). At least `temporal_id`.
    pub opens: u8,
    /// The packet brings a structure: it is of a keyframe.
    pub has_structure: bool,
}

/// Why a descriptor says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorError {
    Truncated,
    /// A structure with more templates or layers than there can be.
    TooMany,
    /// Of a structure that has not come.
    UnknownTemplate,
}

/// The structure of one RTP stream.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    structure: Option<Structure>,
    /// The number of the packet that brought it.
    sequence: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Template {
    spatial_id: u8,
    temporal_id: u8,
    opens: u8,
}

#[derive(Clone, Debug)]
struct Structure {
    id_offset: u8,
    count: usize,
    templates: [Template; TEMPLATES_MAX],
    /// The highest temporal layer of each decode target.
    targets: [u8; TARGETS_MAX],
    target_count: usize,
}

impl Templates {
    /// Reads a packet's descriptor, and keeps the structure that it brings if that is newer than the one that is known.
    /// `sequence` is the packet's unwrapped number.
    pub fn read(&mut self, data: &[u8], sequence: u64) -> Result<DependencyDescriptor, DescriptorError> {
        let Some((&[flags, high, low], extended)) = data.split_first_chunk::<3>() else {
            return Err(DescriptorError::Truncated);
        };
        let mut bits = Bits { data: extended, at: 0 };
        let (mut brought, mut has_custom_targets) = (None, false);
        if !extended.is_empty() {
            let [has_structure, has_active_targets, custom_targets, _, _] = bits.flags()?;
            has_custom_targets = custom_targets;
            if has_structure {
                brought = Some(Structure::read(&mut bits)?);
            }
            let known = brought.as_ref().or(self.structure.as_ref()).ok_or(DescriptorError::UnknownTemplate)?;
            if has_active_targets {
                bits.skip(known.target_count)?;
            }
        }
        let known = brought.as_ref().or(self.structure.as_ref()).ok_or(DescriptorError::UnknownTemplate)?;
        let index = (flags & 0x3F).wrapping_sub(known.id_offset) & 0x3F;
        let template =
            known.templates[..known.count].get(usize::from(index)).ok_or(DescriptorError::UnknownTemplate)?;
        let mut opens = template.opens;
        if has_custom_targets {
            opens = template.temporal_id;
            for &temporal_id in &known.targets[..known.target_count] {
                if bits.read(2)? == SWITCH {
                    opens = opens.max(temporal_id);
                }
            }
        }
        let descriptor = DependencyDescriptor {
            start_of_frame: flags & 0x80 != 0,
            end_of_frame: flags & 0x40 != 0,
            frame_number: u16::from_be_bytes([high, low]),
            spatial_id: template.spatial_id,
            temporal_id: template.temporal_id,
            opens,
            has_structure: brought.is_some(),
        };
        // A retransmission may bring one that is over.
        if brought.is_some() && (self.structure.is_none() || sequence >= self.sequence) {
            self.structure = brought;
            self.sequence = sequence;
        }
        Ok(descriptor)
    }
}

impl Structure {
    /// Appendix A.8.2, `template_dependency_structure`.
    fn read(bits: &mut Bits<'_>) -> Result<Structure, DescriptorError> {
        let id_offset = bits.read(6)? as u8;
        let target_count = bits.read(5)? as usize + 1;
        let mut structure = Structure {
            id_offset,
            count: 0,
            templates: [Template::default(); TEMPLATES_MAX],
            targets: [0; TARGETS_MAX],
            target_count,
        };
        let spatial_layers = structure.read_layers(bits)?;
        structure.read_indications(bits)?;
        for _ in 0..structure.count {
            // The frames that a template refers to: each after a bit that says that there is one more.
            while bits.read(1)? == 1 {
                bits.skip(4)?;
            }
        }
        let chains = bits.read_non_symmetric(target_count as u32 + 1)?;
        if chains > 0 {
            for _ in 0..target_count {
                bits.read_non_symmetric(chains)?;
            }
            bits.skip(structure.count * chains as usize * 4)?;
        }
        let has_resolutions = bits.read(1)? == 1;
        if has_resolutions {
            bits.skip(spatial_layers * 32)?;
        }
        Ok(structure)
    }

    /// The layer of each template. Returns how many spatial layers there are.
    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Result<usize, DescriptorError> {
        let mut template = Template::default();
        loop {
            *self.templates.get_mut(self.count).ok_or(DescriptorError::TooMany)? = template;
            self.count += 1;
            match bits.read(2)? {
                0 => {}
                1 => template.temporal_id += 1,
                2 => template = Template { spatial_id: template.spatial_id + 1, ..Template::default() },
                _ => return Ok(usize::from(template.spatial_id) + 1),
            }
            if template.temporal_id > TEMPORAL_ID_MAX || template.spatial_id > SPATIAL_ID_MAX {
                return Err(DescriptorError::TooMany);
            }
        }
    }

    /// What the frames of each template are to each decode target.
    fn read_indications(&mut self, bits: &mut Bits<'_>) -> Result<(), DescriptorError> {
        // A bit for each decode target.
        let mut switches = [0u32; TEMPLATES_MAX];
        for (template, switches) in self.templates[..self.count].iter().zip(&mut switches) {
            for (target, temporal_id) in self.targets[..self.target_count].iter_mut().enumerate() {
                let indication = bits.read(2)?;
                if indication != NOT_PRESENT {
                    *temporal_id = template.temporal_id.max(*temporal_id);
                }
                *switches |= u32::from(indication == SWITCH) << target;
            }
        }
        for (template, switches) in self.templates[..self.count].iter_mut().zip(switches) {
            let opened = self.targets.iter().enumerate().filter(|(target, _)| switches & 1 << target != 0);
            template.opens = opened.map(|(_, &temporal_id)| temporal_id).fold(template.temporal_id, u8::max);
        }
        Ok(())
    }
}

/// Bits from the front, the highest of an octet first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Up to eight bits.
    fn read(&mut self, count: usize) -> Result<u32, DescriptorError> {
        let start = self.at;
        self.skip(count)?;
        let octet = |index: usize| self.data.get(index).copied().unwrap_or(0);
        let both = u16::from_be_bytes([octet(start / 8), octet(start / 8 + 1)]);
        Ok(u32::from(both << (start % 8)) >> (16 - count))
    }

    fn skip(&mut self, count: usize) -> Result<(), DescriptorError> {
        self.at += count;
        if self.at > self.data.len() * 8 { Err(DescriptorError::Truncated) } else { Ok(()) }
    }

    fn flags(&mut self) -> Result<[bool; 5], DescriptorError> {
        let bits = self.read(5)?;
        Ok([4, 3, 2, 1, 0].map(|bit| bits & 1 << bit != 0))
    }

    /// Appendix A.8.2, `ns(n)`: a number below `end`, which is 1 to 127.
    fn read_non_symmetric(&mut self, end: u32) -> Result<u32, DescriptorError> {
        let width = end.ilog2() as usize + 1;
        let short = (1 << width) - end;
        let value = self.read(width - 1)?;
        if value < short { Ok(value) } else { Ok((value << 1) - short + self.read(1)?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bits written as text; blanks are left out, and zeros fill the last octet.
    fn octets(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|bit| !bit.is_ascii_whitespace()).map(|bit| bit - b'0').collect();
        let octet = |bits: &[u8]| bits.iter().enumerate().fold(0, |octet, (index, bit)| octet | bit << (7 - index));
        bits.chunks(8).map(octet).collect()
    }

    /// Three temporal layers (L1T3): a keyframe's first packet, template ids from 62 on.
    const L1T3: &str = "1 0 111110 0000000000000111 \
        10000 \
        111110 00010 \
        00 01 01 00 11 \
        101010 101010 000110 000001 000001 \
        0 1 0011 0 1 0001 0 1 0000 0 1 0000 0 \
        01 \
        0000 0100 0010 0001 0011 \
        1 0000001001111111 0000000101100111";

    fn known() -> Templates {
        let mut templates = Templates::default();
        templates.read(&octets(L1T3), 100).unwrap();
        templates
    }

    #[test]
    fn a_keyframe_brings_the_structure_of_three_temporal_layers() {
        let mut templates = Templates::default();
        assert_eq!(templates.read(&[0x80, 0, 7], 99), Err(DescriptorError::UnknownTemplate));
        let keyframe = templates.read(&octets(L1T3), 100).unwrap();
        let expected = DependencyDescriptor {
            start_of_frame: true,
            end_of_frame: false,
            frame_number: 7,
            spatial_id: 0,
            temporal_id: 0,
            opens: 2,
            has_structure: true,
        };
        assert_eq!(keyframe, expected);
        let mut of = |first: u8| {
            let read = templates.read(&[first, 0x12, 0x34], 101).unwrap();
            assert_eq!((read.frame_number, read.has_structure), (0x1234, false));
            (read.start_of_frame, read.end_of_frame, read.temporal_id, read.opens)
        };
        // Ids 62, 63, 0, 1, 2. A frame of layer 1 opens layer 2, not its own: nothing of its own layer follows it.
        assert_eq!(of(0x80 | 62), (true, false, 0, 2));
        assert_eq!(of(0xC0 | 63), (true, true, 0, 2));
        assert_eq!(of(0), (false, false, 1, 2));
        assert_eq!(of(0x40 | 1), (false, true, 2, 2));
        assert_eq!(of(2), (false, false, 2, 2));
        assert_eq!(templates.read(&[3, 0, 0], 101), Err(DescriptorError::UnknownTemplate));
        assert_eq!(templates.read(&[61, 0, 0], 101), Err(DescriptorError::UnknownTemplate));
    }

    #[test]
    fn one_layer() {
        let mut templates = Templates::default();
        let structure = "11 000000 0000000000000000 10000 000000 00000 00 11 10 10 0 1 0000 0 0 0";
        let read = templates.read(&octets(structure), 1).unwrap();
        assert_eq!((read.temporal_id, read.opens, read.end_of_frame), (0, 0, true));
        assert_eq!(templates.read(&[0xC1, 0, 1], 2).map(|read| read.temporal_id), Ok(0));
        assert_eq!(templates.read(&[0xC2, 0, 1], 2), Err(DescriptorError::UnknownTemplate));
    }

    #[test]
    fn spatial_layers_are_told_apart() {
        // L2T2: two chains, and each target of the upper layer hangs on the second.
        let structure = "11 000011 0000000000000001 11000 000000 00011 \
            01 10 01 11 \
            10101010 00100011 00001010 00000010 \
            0 0 0 0 \
            0100 0 0 1 1 00000000 00000000 00000000 00000000 \
            1 0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
            1111";
        let read = Templates::default().read(&octets(structure), 1);
        assert_eq!(read.map(|read| (read.spatial_id, read.temporal_id, read.has_structure)), Ok((1, 1, true)));
    }

    #[test]
    fn a_frame_may_have_indications_of_its_own() {
        let mut templates = known();
        // A frame of layer 1 that opens nothing, with a bit for each active target before; one that opens its own layer.
        assert_eq!(templates.read(&octets("10000000 0000000000000001 01100 111 00 01 11"), 101).unwrap().opens, 1);
        assert_eq!(templates.read(&octets("10000001 0000000000000001 00100 10 00 11"), 101).unwrap().opens, 2);
        assert_eq!(templates.read(&octets("10111111 0000000000000001 00100 11 10 11"), 101).unwrap().opens, 1);
        assert_eq!(templates.read(&[0x80, 0, 1, 0x60], 101), Err(DescriptorError::Truncated));
        // Its own references and chains, which are passed over.
        assert_eq!(templates.read(&octets("10000001 0000000000000001 00011 00"), 101).unwrap().temporal_id, 2);
    }

    #[test]
    fn a_structure_that_is_over_changes_nothing() {
        let mut templates = known();
        let other = octets("11 000000 0000000000000000 10000 000000 00000 00 11 10 10 0 1 0000 0 0 0");
        assert_eq!(templates.read(&other, 99).unwrap().opens, 0, "it is read by its own");
        assert_eq!(templates.read(&[0x80 | 63, 0, 8], 101).unwrap().opens, 2);
        templates.read(&other, 102).unwrap();
        assert_eq!(templates.read(&[0x80 | 63, 0, 8], 103), Err(DescriptorError::UnknownTemplate));
    }

    #[test]
    fn what_is_cut_off_is_refused_and_changes_nothing() {
        let whole = octets(L1T3);
        for length in 0..whole.len() {
            let mut templates = Templates::default();
            let read = templates.read(&whole[..length], 1);
            let expected = if length == 3 { DescriptorError::UnknownTemplate } else { DescriptorError::Truncated };
            assert_eq!(read, Err(expected), "{length} octets");
            assert!(templates.structure.is_none());
        }
    }

    #[test]
    fn too_many_layers_are_refused() {
        let head = "10 000000 0000000000000000 10000 000000 00000";
        for layers in ["01".repeat(8), "10".repeat(4), "00".repeat(64)] {
            let structure = octets(&format!("{head} {layers} {}", "0".repeat(200)));
            assert_eq!(Templates::default().read(&structure, 1), Err(DescriptorError::TooMany), "{layers}");
        }
    }

    #[test]
    fn non_symmetric_numbers() {
        // With five values the first three take two bits, the others three.
        let data = octets("00 01 10 110 111");
        let mut bits = Bits { data: &data, at: 0 };
        assert_eq!([0; 5].map(|_| bits.read_non_symmetric(5).unwrap()), [0, 1, 2, 3, 4]);
        assert_eq!(bits.read_non_symmetric(1), Ok(0), "takes no bits");
        assert_eq!(bits.at, 12);
    }

    proptest! {
        #[test]
        fn never_panics(descriptors in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..8)) {
            let mut templates = known();
            for (sequence, (structure, mut data)) in (90..).zip(descriptors) {
                if let Some(octet) = data.get_mut(3) {
                    *octet |= u8::from(structure) << 7;
                }
                if let Ok(read) = templates.read(&data, sequence) {
                    prop_assert!(read.temporal_id <= read.opens && read.opens <= TEMPORAL_ID_MAX);
                    prop_assert!(read.spatial_id <= SPATIAL_ID_MAX);
                }
            }
        }
    }
}
