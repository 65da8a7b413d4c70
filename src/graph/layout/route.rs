//! The routes of edges through channels and gutters, and their tracks there.

use std::collections::BTreeMap;

use super::rows::Rows;
use super::{CLEARANCE, ENTRY, Edge, PORT, Point, RADIUS, Side, TRACK, gap, spacing};

/// A section of an edge's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hop {
    /// Up or down, left of the box of this row and position, or right of the last.
    Gutter(usize, usize),
    /// Left or right, above this row.
    Channel(usize),
}

/// The edges that share a track in a gutter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Track {
    /// Those of this net.
    Net(usize),
    /// Those into this step, on the track beside it.
    Into(usize),
}

/// The route of each edge, and its track in each gutter.
pub(super) struct Routes {
    hops: Vec<Vec<Hop>>,
    /// The tracks, by row and gutter.
    gutters: Vec<Vec<BTreeMap<Track, usize>>>,
}

impl Routes {
    pub(super) fn new(rows: &Rows, sizes: &[(f64, f64)], edges: &[Edge]) -> Self {
        let lefts = rows.lefts(sizes, |_, _| 0);
        let places: Vec<Vec<f64>> = rows.rows.iter().map(|row| gutters_of(row, sizes, &lefts)).collect();
        let hops: Vec<Vec<Hop>> = edges.iter().map(|edge| route(rows, &places, &lefts, edge)).collect();
        let mut gutters: Vec<Vec<BTreeMap<Track, usize>>> =
            places.iter().map(|row| vec![BTreeMap::new(); row.len()]).collect();
        for (edge, hops) in edges.iter().zip(&hops) {
            for (at, hop) in hops.iter().enumerate() {
                if let Hop::Gutter(row, gutter) = hop {
                    let tracks = &mut gutters[*row][*gutter];
                    let next = tracks.len();
                    tracks.entry(track(edge, hops, at)).or_insert(next);
                }
            }
        }
        Self { hops, gutters }
    }

    /// Returns the number of tracks of a gutter.
    pub(super) fn tracks(&self, row: usize, gutter: usize) -> usize {
        self.gutters[row][gutter].len()
    }

    /// Returns the corners of boxes with these left sides, the paths of the edges, and the height of the picture.
    pub(super) fn draw(
        &self,
        rows: &Rows,
        sizes: &[(f64, f64)],
        edges: &[Edge],
        lefts: &[f64],
    ) -> (Vec<Point>, Vec<Vec<Point>>, f64) {
        let places: Vec<Vec<f64>> = rows.rows.iter().map(|row| gutters_of(row, sizes, lefts)).collect();
        let columns: Vec<Vec<f64>> =
            edges.iter().zip(&self.hops).map(|(edge, hops)| self.columns(&places, lefts, edge, hops)).collect();
        let channels = Channels::new(rows.rows.len() + 1, edges, &self.hops, &columns);
        let (mut corners, mut tops) = (vec![Point { x: 0.0, y: 0.0 }; sizes.len()], Vec::new());
        let mut y = 0.0;
        for (row, boxes) in rows.rows.iter().enumerate() {
            tops.push(y);
            y += channels.height(row, rows.rows.len());
            for number in boxes {
                corners[*number] = Point { x: lefts[*number], y };
            }
            y += boxes.iter().map(|number| sizes[*number].1).fold(0.0, f64::max);
        }
        tops.push(y);
        let height = y + channels.height(rows.rows.len(), rows.rows.len());
        let paths = edges.iter().zip(&self.hops).zip(&columns);
        let paths = paths.map(|((edge, hops), columns)| {
            let heights = hops.iter().map(|hop| match hop {
                Hop::Channel(row) => Some(tops[*row] + channels.height_of(edge.net, *row)),
                Hop::Gutter(..) => None,
            });
            path(edge, &corners, columns, heights)
        });
        let paths = paths.collect();
        (corners, paths, height)
    }

    /// Returns the horizontal positions of an edge: at its beginning, after each hop, and at its end.
    fn columns(&self, places: &[Vec<f64>], lefts: &[f64], edge: &Edge, hops: &[Hop]) -> Vec<f64> {
        let begin = lefts[edge.from.of] + PORT;
        let end = match edge.to.side {
            Side::Left => lefts[edge.to.of] + PORT - RADIUS,
            // Straight down if one box is below the other; otherwise beside the edges that may leave by the port there.
            _ if hops.len() == 1 && lefts[edge.to.of] == lefts[edge.from.of] => begin,
            _ => lefts[edge.to.of] + PORT + ENTRY,
        };
        let mut columns = vec![begin];
        for (at, hop) in hops.iter().enumerate() {
            // A channel leads to the gutter after it.
            let (at, hop) = if let Hop::Channel(_) = hop { (at + 1, hops.get(at + 1)) } else { (at, Some(hop)) };
            columns.push(match hop {
                Some(Hop::Gutter(row, gutter)) => self.column(places, track(edge, hops, at), *row, *gutter),
                _ => end,
            });
        }
        columns.push(end);
        columns
    }

    /// Returns the horizontal position of a track of a gutter.
    fn column(&self, places: &[Vec<f64>], track: Track, row: usize, gutter: usize) -> f64 {
        let tracks = &self.gutters[row][gutter];
        let number = tracks.get(&track).copied().unwrap_or_default();
        let aside = CLEARANCE + spacing(tracks.len()) * super::count(number);
        let is_last = gutter + 1 == places[row].len();
        places[row][gutter] + if is_last { aside } else { -aside }
    }
}

/// Returns the track of an edge in the gutter of one of its hops.
fn track(edge: &Edge, hops: &[Hop], at: usize) -> Track {
    if at + 1 == hops.len() { Track::Into(edge.into) } else { Track::Net(edge.net) }
}

/// Returns the positions of a row's gutters: the left side of each box, and the right side of the last.
fn gutters_of(row: &[usize], sizes: &[(f64, f64)], lefts: &[f64]) -> Vec<f64> {
    let right = row.last().map(|number| lefts[*number] + sizes[*number].0);
    row.iter().map(|number| lefts[*number]).chain(right).collect()
}

/// Returns the hops of an edge; it passes the rows in between by the gutters with the shortest route.
fn route(rows: &Rows, places: &[Vec<f64>], lefts: &[f64], edge: &Edge) -> Vec<Hop> {
    let ((from, begin), (to, end)) = (rows.at[edge.from.of], rows.at[edge.to.of]);
    let mut hops = Vec::new();
    let mut channel = match edge.from.side {
        Side::Bottom => from + 1,
        _ => {
            hops.push(Hop::Gutter(from, begin));
            if to > from { from + 1 } else { from }
        }
    };
    hops.push(Hop::Channel(channel));
    let target = if edge.to.side == Side::Top || channel <= to { to } else { to + 1 };
    let (mut x, towards) = (lefts[edge.from.of], lefts[edge.to.of]);
    while channel != target {
        let row = if channel < target { channel } else { channel - 1 };
        let detour = |place: &f64| (place - x).abs() + (place - towards).abs();
        let nearest = places[row].iter().enumerate().min_by(|(_, one), (_, other)| {
            detour(one).total_cmp(&detour(other)).then((*one - x).abs().total_cmp(&(*other - x).abs()))
        });
        let Some((gutter, place)) = nearest else { break };
        x = *place;
        channel = if channel < target { channel + 1 } else { channel - 1 };
        hops.extend([Hop::Gutter(row, gutter), Hop::Channel(channel)]);
    }
    if edge.to.side == Side::Left {
        hops.push(Hop::Gutter(to, end));
    }
    hops
}

/// Returns the corners of one edge, given its horizontal positions and the heights of its channels.
fn path(edge: &Edge, corners: &[Point], columns: &[f64], heights: impl Iterator<Item = Option<f64>>) -> Vec<Point> {
    let mut at = Point { x: columns[0], y: corners[edge.from.of].y + edge.from.height };
    let mut path = vec![at];
    for (height, column) in heights.zip(&columns[1..]) {
        if let Some(y) = height {
            at.y = y;
            path.push(at);
        }
        at.x = *column;
        path.push(at);
    }
    at.y = corners[edge.to.of].y + edge.to.height;
    path.push(at);
    path.extend(columns.last().map(|x| Point { x: *x, y: at.y }));
    path.dedup();
    // Corners on a straight line are removed.
    let mut straight: Vec<Point> = Vec::with_capacity(path.len());
    for point in path {
        if let [.., before, last] = straight.as_slice()
            && ((before.x == last.x && last.x == point.x) || (before.y == last.y && last.y == point.y))
        {
            straight.pop();
        }
        straight.push(point);
    }
    straight
}

/// The tracks of nets in channels: nets that do not overlap share one.
struct Channels {
    /// The tracks, by channel and net.
    tracks: Vec<BTreeMap<usize, usize>>,
    counts: Vec<usize>,
}

impl Channels {
    fn new(number: usize, edges: &[Edge], hops: &[Vec<Hop>], columns: &[Vec<f64>]) -> Self {
        let mut spans: Vec<BTreeMap<usize, (f64, f64)>> = vec![BTreeMap::new(); number];
        for ((edge, hops), columns) in edges.iter().zip(hops).zip(columns) {
            for (hop, between) in hops.iter().zip(columns.windows(2)) {
                if let Hop::Channel(row) = hop {
                    let (left, right) = (between[0].min(between[1]), between[0].max(between[1]));
                    let span = spans[*row].entry(edge.net).or_insert((left, right));
                    *span = (span.0.min(left), span.1.max(right));
                }
            }
        }
        let (mut tracks, mut counts) = (Vec::new(), Vec::new());
        for spans in spans {
            let mut ends: Vec<f64> = Vec::new();
            let mut channel = BTreeMap::new();
            let mut spans: Vec<(usize, (f64, f64))> = spans.into_iter().collect();
            spans.sort_by(|(_, (one, _)), (_, (other, _))| one.total_cmp(other));
            for (net, (left, right)) in spans {
                // An edge that passes straight through needs no track.
                let free = if left == right { Some(0) } else { ends.iter().position(|end| end + TRACK < left) };
                let track = free.unwrap_or(ends.len());
                if track == ends.len() {
                    ends.push(f64::NEG_INFINITY);
                }
                ends[track] = ends[track].max(if left == right { f64::NEG_INFINITY } else { right });
                channel.insert(net, track);
            }
            tracks.push(channel);
            counts.push(ends.len());
        }
        Self { tracks, counts }
    }

    /// Returns the distance of a net below a channel's top.
    fn height_of(&self, net: usize, channel: usize) -> f64 {
        let track = self.tracks[channel].get(&net).copied().unwrap_or_default();
        CLEARANCE + spacing(self.counts[channel]) * super::count(track)
    }

    /// Returns the height of a channel; the channels above and below all rows have none if no net runs along them.
    fn height(&self, channel: usize, last: usize) -> f64 {
        match self.counts[channel] {
            0 if channel == 0 || channel == last => 0.0,
            tracks => gap(tracks),
        }
    }
}
