// Elements, and figures as text. All text enters the document through textContent or a text node.

const $ = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

// An element with a class, and its children: nodes or text.
function el(tag, name = '', ...children) {
	const element = document.createElement(tag);
	if (name) element.className = name;
	element.append(...children);
	return element;
}

function svg(tag, attributes = {}, ...children) {
	const element = document.createElementNS(SVG, tag);
	for (const name in attributes) element.setAttribute(name, attributes[name]);
	element.append(...children);
	return element;
}

function button(name, text, click) {
	const element = el('button', name, text);
	on(element, 'click', click);
	return element;
}

const on = (target, event, act) => target.addEventListener(event, act);

// Touches the document only where something changed.
function say(element, text, title = '') {
	if (element.textContent !== text) element.textContent = text;
	if (element.title !== title) element.title = title;
}

// As many children of `parent` as there are items, made once and then only updated.
function fill(parent, items, make, update) {
	const children = parent.children;
	while (children.length > items.length) parent.lastElementChild.remove();
	items.forEach((item, at) => {
		if (!children[at]) parent.append(make(item));
		update(children[at], item, at);
	});
}

const short = v => Number.isInteger(v) && v < 1000 ? `${v}` : v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v >= 0.01 ? v.toFixed(2) : '<0.01';
const orDash = format => v => isFinite(v) ? format(v) : '–';
const joined = (parts, by) => parts.filter(Boolean).join(by);
const plural = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;
const scaled = (units, step) => orDash(v => {
	let at = 0;
	while (abs(v) >= step && at < units.length - 1) {
		v /= step;
		at++;
	}
	return short(v) + units[at];
});
const thousands = scaled(['', ' k', ' M', ' G', ' T'], 1000);
const count = v => Number.isInteger(v) && v < 10000 ? `${v}` : thousands(v);
const bytes = scaled([' B', ' KiB', ' MiB', ' GiB', ' TiB'], 1024);
const perSecond = orDash(v => count(v) + '/s');
const flow = orDash(v => bytes(v) + '/s');
const percent = orDash(v => (v && v < 0.0005 ? '<0.1' : (v * 100).toFixed(v < 0.0995 && v ? 1 : 0)) + ' %');
const time = orDash(v => v >= 1 || !v ? short(v) + ' s' : v >= 1e-3 ? short(v * 1e3) + ' ms' : short(v * 1e6) + ' µs');
const wait = orDash(v => time(v) + '/s');
const age = orDash(v => v >= 172800 ? `${floor(v / 86400)} d ${floor(v / 3600) % 24} h`
	: v >= 3600 ? `${floor(v / 3600)} h ${floor(v / 60) % 60} min`
	: v >= 60 ? `${floor(v / 60)} min` : `${floor(v)} s`);
const clock = at => new Date(at).toLocaleTimeString([], { hour12: false });

// The last part of a container's name; of Kubernetes' the pod too, since many containers are called app.
const brief = id => id.match(id.startsWith('/k8s') ? /[^/]*\/[^/]*$/ : /[^/]*$/)[0] || id;

let typeface = '';
const pen = document.createElement('canvas').getContext('2d');
function measure(text, font) {
	typeface ||= getComputedStyle(document.body).fontFamily;
	pen.font = font + typeface;
	return pen.measureText(text).width;
}

// As much of the text as has room.
function fit(text, width, font) {
	let shown = text;
	for (let length = text.length; length && measure(shown, font) > width; length--) shown = text.slice(0, length - 1) + '…';
	return shown;
}

let needle = '';
const matches = text => !needle || text.toLowerCase().includes(needle);

// A line for each history, in a box of 60 by 20.
function spark(drawing, histories) {
	const most = max(1e-9, ...histories.flat().filter(isFinite));
	fill(drawing, histories, () => svg('polyline', { 'vector-effect': 'non-scaling-stroke' }), (line, history) => {
		const first = 60 - history.length;
		const point = (v, at) => isFinite(v) ? `${first + at},${(19 - 18 * v / most).toFixed(1)}` : '';
		line.setAttribute('points', history.map(point).join(' '));
	});
}
const newSpark = () => svg('svg', { viewBox: '0 0 59 20', preserveAspectRatio: 'none', class: 'spark', 'aria-hidden': 'true' });
