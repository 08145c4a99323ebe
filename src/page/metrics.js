'use strict';
// The Prometheus text format: from text to series with rates.
// A series is known by its line up to the value, so that labels are parsed once and not every five seconds.
// Nothing here touches the document.

const known = new Map();
const families = new Map();
let turn = 0;

// Families whose series begin at 0 when something happens for the first time: their first value is growth.
const EVENTS = /^container_(log_messages|net_tcp_|restarts|oom_kills)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

function number(text) {
	const value = Number(text);
	if (value === value) return value;
	return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : NaN;
}

function unescape(text) {
	return text.includes('\\') ? text.replace(/\\(.)/g, (_, c) => c === 'n' ? '\n' : c) : text;
}

function familyOf(name) {
	let family = families.get(name);
	if (!family) families.set(name, family = { name, type: 'untyped', help: '', series: [] });
	return family;
}

// # HELP and # TYPE; other comments change nothing.
function describe(line, family) {
	const [, what, name, rest] = line.match(/^# (HELP|TYPE) (\S+) ?(.*)/) || [];
	if (!what) return family;
	family = familyOf(name);
	if (what === 'TYPE') family.type = rest;
	else if (!family.help) family.help = rest;
	return family;
}

// `line` is a piece of the whole text: a key that is kept must be a copy, or it keeps the text.
function newSeries(line, family) {
	const key = JSON.parse(JSON.stringify(line));
	const brace = key.indexOf('{');
	const name = brace < 0 ? key : key.slice(0, brace);
	const labels = Object.create(null);
	if (brace >= 0) for (const [, label, value] of key.slice(brace).matchAll(LABEL)) labels[label] = unescape(value);
	if (!family || !/^(_bucket|_sum|_count)?$/.test(name.startsWith(family.name) ? name.slice(family.name.length) : '?')) {
		family = familyOf(name);
	}
	const rate = turn > 1 && EVENTS.test(name) ? 0 : NaN;
	return { key, family, part: name.slice(family.name.length), labels, value: rate, at: NaN, rate, slow: NaN, turn: 0 };
}

// The agent's own clock: when the values were read, however late the answer came.
function uptime(text) {
	const name = '\nnodeprobe_uptime_seconds ', at = text.indexOf(name);
	return at < 0 ? NaN : parseFloat(text.slice(at + name.length, at + name.length + 24));
}

// Takes in a whole answer that came at that time, in milliseconds.
function take(text, came) {
	const before = take.at || NaN, up = uptime(text) * 1000;
	const now = up > take.up ? before + up - take.up : before + came - take.came || came;
	[take.at, take.up, take.came] = [now, up, came];
	turn++;
	for (const family of families.values()) family.series.length = 0;
	let family = null;
	let count = 0;
	for (let at = 0, end; at < text.length; at = end + 1) {
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
	return count;
}

const all = name => families.get(name)?.series || [];
const only = name => all(name)[0];
// The sum of a field over series; NaN, which is shown as a dash, when there are none.
const sum = (list, field = 'value') => list.length ? list.reduce((total, s) => total + (s[field] || 0), 0) : NaN;

// The last sixty values.
class History {
	values = [];
	add(value) {
		this.values.push(value);
		if (this.values.length > 60) this.values.shift();
	}
}

// Quantile `q` of a histogram's growth, from [upper bound, cumulative] pairs in order.
function quantile(q, buckets) {
	const total = buckets.at(-1)?.[1];
	if (!(total > 0)) return NaN;
	let low = 0, below = 0;
	for (const [bound, count] of buckets) {
		if (count >= q * total) {
			if (bound === Infinity) return low;
			return low + (bound - low) * (q * total - below) / (count - below || 1);
		}
		[low, below] = [bound, count];
	}
	return NaN;
}
