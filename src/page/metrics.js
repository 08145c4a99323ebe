'use strict';
// The Prometheus text format: from text to series with rates.
// A series is known by its line up to the value, so that labels are parsed once and not every five seconds.
// Nothing here touches the document.

const { abs, max, min, floor } = Math;
const known = new Map();
const families = new Map();
let turn = 0;

// Families whose series begin at 0 when something happens for the first time: their first value is growth.
const EVENTS = /^container_(log_messages|net_tcp_|restarts|oom_kills)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

function number(text) {
	const value = Number(text);
	return value === value ? value : Number(text.replace('Inf', 'Infinity'));
}

// What a map has for a key; made if that is nothing yet.
function entry(map, key, make) {
	if (!map.has(key)) map.set(key, make());
	return map.get(key);
}

const familyOf = name => entry(families, name, () => ({ name, type: '', help: '', series: [] }));

// # HELP and # TYPE; other comments change nothing.
function describe(line, family) {
	const [, what, name, rest] = line.match(/^# (HELP|TYPE) (\S+) ?(.*)/) || [];
	if (!what) return family;
	family = familyOf(name);
	if (what === 'TYPE') family.type = rest;
	else family.help ||= rest;
	return family;
}

// `line` is a piece of the whole text: a key that is kept must be a copy, or it keeps the text.
function newSeries(line, family) {
	const key = JSON.parse(JSON.stringify(line));
	const brace = key.indexOf('{');
	const name = brace < 0 ? key : key.slice(0, brace);
	const labels = Object.create(null);
	for (const [, label, value] of key.slice(name.length).matchAll(LABEL)) {
		labels[label] = value.replace(/\\(.)/g, (_, c) => c === 'n' ? '\n' : c);
	}
	if (![name, name.replace(/_(bucket|sum|count)$/, '')].includes(family?.name)) family = familyOf(name);
	const rate = turn > 1 && EVENTS.test(name) ? 0 : NaN;
	return { key, family, part: name.slice(family.name.length), labels, value: rate, at: NaN, rate, slow: NaN, turn: 0 };
}

// The last answer: when its values were read, by the agent's own clock and as far as that is known, and when it came.
let readAt = NaN;
let lastUp = NaN;
let lastCame = NaN;

// Takes in a whole answer that came at that time, in milliseconds.
function take(text, came) {
	const before = readAt;
	const up = Number(text.match(/\nnodeprobe_uptime_seconds (.*)/)?.[1]) * 1000;
	const now = up > lastUp ? before + up - lastUp : before + came - lastCame || came;
	[readAt, lastUp, lastCame] = [now, up, came];
	turn++;
	for (const family of families.values()) family.series.length = 0;
	let family = null;
	let count = 0;
	let end = 0;
	for (let at = 0; at < text.length; at = end + 1) {
		end = text.indexOf('\n', at);
		if (end < 0) end = text.length;
		if (text.charCodeAt(at) === 35) {
			family = describe(text.slice(at, end), family);
			continue;
		}
		const blank = text.lastIndexOf(' ', end);
		if (blank <= at) continue;
		const line = text.slice(at, blank);
		let one = known.get(line);
		if (!one) {
			one = newSeries(line, family);
			if (one.rate === 0) one.at = before;
			known.set(one.key, one);
		}
		const value = number(text.slice(blank + 1, end));
		if (one.at < now) {
			// A counter that fell began anew.
			const growth = value < one.value ? value : value - one.value;
			one.rate = growth / (now - one.at) * 1000;
			one.slow = one.slow >= 0 ? one.slow * 0.85 + one.rate * 0.15 : one.rate;
		}
		one.value = value;
		one.at = now;
		one.turn = turn;
		one.family.series.push(one);
		count++;
	}
	if (known.size > count) for (const [key, one] of known) if (one.turn !== turn) known.delete(key);
}

const order = (a, b) => a < b ? -1 : 1;
const all = name => families.get(name)?.series || [];
const ofContainers = name => all('container_' + name);
const only = name => all(name)[0];
const valueOf = name => only(name)?.value;
const find = (name, label, value) => all(name).find(s => s.labels[label] === value);
// The sum of a field over series; NaN, which is shown as a dash, when there are none.
const sum = (list, field = 'value') => list.length ? list.reduce((total, s) => total + (s[field] || 0), 0) : NaN;

// Adds to the last sixty values.
function remember(history, value) {
	history.push(value);
	if (history.length > 60) history.shift();
	return history;
}

// Quantile `q` of a histogram's growth, from [upper bound, cumulative] pairs in order.
function quantile(q, buckets) {
	const total = buckets.at(-1)?.[1];
	if (!(total > 0)) return NaN;
	let low = 0;
	let below = 0;
	for (const [bound, count] of buckets) {
		if (count >= q * total) {
			if (bound === Infinity) return low;
			return low + (bound - low) * (q * total - below) / (count - below || 1);
		}
		[low, below] = [bound, count];
	}
	return NaN;
}
