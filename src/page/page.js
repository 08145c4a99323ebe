// What is drawn, but for the map, and when.

const PERIOD = 5000;
const ROW = 38;

// The node

const RESOURCES = { cpu: 'CPU', memory: 'memory', io: 'I/O', irq: 'IRQ' };
const stalled = (whose, what) => `${whose}_resources_${what}_pressure_waiting_seconds_total`;
const histories = {};

function nodeTiles() {
	const tiles = [];
	// What `bar` has shares of has its colour in the fact of that name.
	const add = (title, big, meaning, values, facts, bar = [], isBad) => {
		const lines = values.map((value, at) => remember(histories[title + at] ??= [], value));
		tiles.push([title, big, meaning, isBad, lines, facts, bar]);
	};
	const cores = valueOf('node_resources_cpu_logical_cores');
	const modes = all('node_resources_cpu_usage_seconds_total').map(s => [s.labels.mode, s.rate / cores]);
	if (modes.length) {
		const busy = modes.filter(([mode]) => mode !== 'idle');
		const cpu = busy.reduce((total, [, share]) => total + share, 0);
		add('CPU', percent(cpu), 'of ' + plural(cores, 'core'), [cpu],
			busy.filter(([mode, share]) => share > 0.001 || mode === 'user' || mode === 'system').map(([mode, share]) => [mode, percent(share), mode]), busy);
	}
	const [total, free, available] = ['total', 'free', 'available'].map(word => valueOf(`node_resources_memory_${word}_bytes`));
	if (total) {
		const used = total - available;
		const cache = available - free;
		add('Memory', percent(used / total), `of ${bytes(total)}`, [used / total],
			[['used', bytes(used), 'used'], ['cache', bytes(cache), 'cached'], ['free', bytes(free)]], [['used', used / total], ['cached', cache / total]]);
	}
	const felt = Object.keys(RESOURCES)
		.map(what => [what, ...['some', 'full'].map(kind => find(stalled('node', what), 'kind', kind)?.rate)])
		.filter(([, some, full]) => (some ?? full) !== undefined);
	if (felt.length) {
		const worst = max(...felt.map(([, some, full]) => some ?? full));
		add('Pressure', percent(worst), 'of the time something waits', [worst],
			felt.map(([what, some, full]) => [RESOURCES[what], some === undefined ? percent(full) : `${percent(some)}, all ${percent(full)}`]));
	}
	// Both ways together, and the three devices that do most.
	const traffic = (title, prefix, suffixes, label, show, words = suffixes) => {
		const [one, two] = suffixes.map(suffix => prefix + suffix + '_bytes_total');
		const devices = all(one);
		if (!devices.length) return;
		const [first, second] = [sum(devices, 'rate'), sum(all(two), 'rate')];
		const busiest = devices.map(s => show(s.labels[label], s.rate, find(two, label, s.labels[label])?.rate));
		busiest.sort((a, b) => (b[3] || 0) - (a[3] || 0));
		add(title, flow(first + (second || 0)), words.join(' and '), [first, second],
			[[words[0], flow(first), 'first'], [words[1], flow(second), 'second'], ...busiest.slice(0, 3)]);
	};
	traffic('Disks', 'node_resources_disk_', ['read', 'written'], 'device', device => {
		const share = find('node_resources_disk_io_time_seconds_total', 'device', device)?.rate;
		return [device, `${percent(share)} busy`, '', share];
	});
	traffic('Network', 'node_net_', ['received', 'transmitted'], 'interface', (name, received, sent) =>
		[name, find('node_net_interface_up', 'interface', name)?.value === 0 ? 'down' : `↓ ${flow(received)} ↑ ${flow(sent)}`, '', received], ['received', 'sent']);
	const cloud = only('node_cloud_info')?.labels;
	const facts = [['containers', count(containers.size)]];
	if (cloud?.provider) {
		facts.push(['cloud', joined([cloud.provider, cloud.instance_type], ' ')],
			['zone', cloud.availability_zone || cloud.region || '–'], ['instance', cloud.instance_id || '–']);
	}
	const isNoticed = valueOf('node_cloud_interruption_notice') === 1;
	add('Up', age(valueOf('node_uptime_seconds')),
		isNoticed ? 'the cloud will take this instance away' : `since boot of Linux ${only('node_info')?.labels.kernel_version || ''}`, [], facts, [], isNoticed);
	return tiles;
}

function drawNode() {
	const host = only('node_info')?.labels.hostname || '';
	say($('who'), host);
	document.title = joined([host, 'nodeprobe'], ' · ');
	const make = () => el('div', 'tile', el('h3'), el('p', 'big'), el('p'), newSpark(), el('div', 'bar'), el('dl'));
	fill($('tiles'), nodeTiles(), make, (tile, [title, big, meaning, isBad, lines, facts, bar]) => {
		const [h, value, under, drawing, stack, list] = tile.children;
		say(h, title);
		say(value, big);
		say(under, meaning);
		under.className = isBad ? 'of bad' : 'of';
		spark(drawing, lines);
		fill(stack, bar, () => el('i'), (part, [name, share]) => {
			part.className = 'm-' + name;
			part.style.width = max(0, share * 100 || 0) + '%';
		});
		fill(list, facts, () => el('div', '', el('dt'), el('dd')), ({ children: [dt, dd] }, [name, text, mark]) => {
			say(dt, name);
			say(dd, text, text);
			dt.className = mark ? 'key m-' + mark : '';
		});
	});
}

// Containers

let containers = new Map();
// What is added up: seconds and bytes that are counted, as rates.
const FIELDS = {
	cpu: 'resources_cpu_usage_seconds_total', throttled: 'resources_cpu_throttled_seconds_total',
	received: 'net_received_bytes_total', sent: 'net_transmitted_bytes_total',
	cpuWait: 'resources_cpu_delay_seconds_total', diskWait: 'resources_disk_delay_seconds_total',
	memory: 'resources_memory_working_set_bytes', memoryLimit: 'resources_memory_limit_bytes',
	restarts: 'restarts_total', kills: 'oom_kills_total',
};

function readContainers() {
	const before = containers;
	containers = new Map();
	const own = ({ labels: { container_id: id } }) => entry(containers, id, () => {
		const name = brief(id);
		const c = { id, name, place: id.slice(1, -name.length - 1), cpus: before.get(id)?.cpus || [], pressure: NaN, image: '', app: '', stalls: '' };
		for (const field in FIELDS) c[field] = NaN;
		return c;
	});
	for (const field in FIELDS) {
		const what = /(seconds|bytes)_total/.test(FIELDS[field]) ? 'rate' : 'value';
		for (const s of ofContainers(FIELDS[field])) {
			const c = own(s);
			c[field] = (c[field] || 0) + s[what];
		}
	}
	for (const what in RESOURCES) {
		for (const s of all(stalled('container', what))) {
			const c = own(s);
			if (s.labels.kind === 'some' && !(c.pressure >= s.rate)) [c.pressure, c.stalls] = [s.rate, RESOURCES[what]];
		}
	}
	for (const s of ofContainers('info')) own(s).image = s.labels.image || '';
	for (const s of ofContainers('application_type')) {
		const c = own(s);
		c.app = joined([c.app, s.labels.application_type], ', ');
	}
	for (const c of containers.values()) {
		c.share = c.memory / c.memoryLimit;
		remember(c.cpus, c.cpu);
		c.under = joined([c.place, c.app, c.image], ' · ');
		c.text = `${c.id} ${c.under}`;
	}
}

// Title, field, what it means, format, from where on it is remarkable and bad.
const COLUMNS = [
	['Container', 'name', 'Name; below, where it runs, its kind and its image', String],
	['CPU', 'cpu', 'Cores in use; the line is the last minutes', orDash(v => v && v < 0.0005 ? '<0.001' : v && v < 0.1 ? v.toFixed(3) : short(v))],
	['Throttled', 'throttled', 'Share of the time its CPU limit kept it from running', percent, 0.02, 0.25],
	['Memory', 'memory', 'Working set: what counts against the limit, less inactive page cache', bytes],
	['Of limit', 'share', 'Working set as a share of the memory limit', percent, 0.8, 0.95],
	['Pressure', 'pressure', 'Share of the time some task waited for CPU, memory or I/O, whichever is most', percent, 0.1, 0.4],
	['Received', 'received', 'Bytes received', flow],
	['Sent', 'sent', 'Bytes sent', flow],
	['CPU wait', 'cpuWait', 'Time its threads were ready to run and waited for a processor', wait],
	['Disk wait', 'diskWait', 'Time its threads waited for block I/O', wait],
	['Restarts', 'restarts', 'Times it began anew', count, 1],
	['OOM kills', 'kills', 'Processes killed for want of memory', count, 0.5, 1],
];
const pane = $('window');
let sorted = 1;
let downwards = true;
let shown = [];

// Column heads that sort; `click` gets the column.
function head(table, columns, click) {
	table.rows[0].replaceChildren(...columns.map(([title, , help = ''], at) => {
		const cell = el('th', '', click ? button('', title, () => click(at)) : title);
		cell.scope = 'col';
		cell.title = help;
		return cell;
	}));
}

function sortBy(at) {
	downwards = at === sorted ? !downwards : at > 0;
	sorted = at;
	pane.scrollTop = 0;
	drawContainers();
}

function drawContainers() {
	const field = COLUMNS[sorted][1];
	shown = [...containers.values()].filter(c => matches(c.text));
	shown.sort((a, b) => {
		const [x, y] = [a[field], b[field]];
		// What is not known comes last, either way.
		return (x !== x) - (y !== y) || (x < y || x > y ? downwards === x < y ? 1 : -1 : order(a.id, b.id));
	});
	[...$('table').rows[0].cells].forEach((cell, at) => cell.ariaSort = at !== sorted ? null : downwards ? 'descending' : 'ascending');
	say($('containers-n'), needle ? `${shown.length} of ${containers.size}` : `${containers.size}`);
	drawRows();
}

// Only what can be seen is in the document; two rows of the right height stand for the rest.
function drawRows() {
	const table = $('table');
	const [above, body, below] = table.tBodies;
	const isShort = shown.length <= 60;
	const begin = isShort ? 0 : max(0, min(floor(pane.scrollTop / ROW) - 6, shown.length - 20));
	const visible = shown.slice(begin, isShort ? 60 : begin + floor(pane.clientHeight / ROW) + 13);
	table.ariaRowCount = shown.length + 1;
	const gap = (part, rows) => {
		part.hidden = !rows;
		part.rows[0].cells[0].style.height = rows * ROW + 'px';
	};
	gap(above, begin);
	gap(below, shown.length - begin - visible.length);
	fill(body, visible, newRow, (row, c, at) => {
		row.container = c;
		row.ariaRowIndex = begin + at + 2;
		const [name, under] = row.cells[0].children;
		say(name, c.name, c.id);
		say(under, c.under, c.under);
		COLUMNS.forEach(([, field, , format, remarkable, bad], at) => {
			if (!at) return;
			const cell = row.cells[at];
			const value = c[field];
			say(cell.lastChild, format(value) + (at === 5 && value >= 0.005 ? ' ' + c.stalls : ''));
			cell.className = value >= bad ? 'bad' : value >= remarkable ? 'warn' : value ? '' : 'nil';
		});
		spark(row.cells[1].firstChild, [c.cpus]);
		const meter = row.cells[4].firstChild;
		meter.firstChild.style.width = min(1, c.share || 0) * 100 + '%';
		meter.hidden = !(c.share >= 0);
	});
}

function newRow() {
	const row = el('tr', '', el('th', '', button('link', '', () => filter(row.container.id)), el('span', 'under')));
	row.firstChild.scope = 'row';
	for (let at = 1; at < COLUMNS.length; at++) {
		row.append(el('td', '', at === 1 ? newSpark() : at === 4 ? el('i', 'meter', el('i')) : '', el('span')));
	}
	return row;
}

function filter(text) {
	$('filter').value = text;
	needle = text.trim().toLowerCase();
	pane.scrollTop = 0;
	draw();
}

// Plain tables: the text of each cell, and what class it has.
function drawTable(id, columns, rows) {
	const table = $(id);
	if (!table.rows[0].cells.length) head(table, columns);
	fill(table.tBodies[0], rows, () => el('tr', '', ...columns.map(() => el('td'))), (row, cells) => {
		cells.forEach((cell, at) => {
			const [text, name = columns[at][1] || ''] = [cell].flat();
			say(row.cells[at], text, text.length > 24 ? text : '');
			row.cells[at].className = name;
		});
	});
}

// Logs

const LEVELS = ['critical', 'error', 'warning', 'info', 'debug', 'unknown'];

function drawLogs() {
	const perMinute = s => (s.slow || 0) * 60;
	const found = ofContainers('log_messages_total').filter(s => matches(`${s.labels.container_id} ${s.labels.sample} ${s.labels.level}`));
	const rank = s => LEVELS.indexOf(s.labels.level);
	found.sort((a, b) => perMinute(b) - perMinute(a) || rank(a) - rank(b) || b.value - a.value);
	const loud = LEVELS.map(level => {
		const rate = sum(found.filter(s => s.labels.level === level), 'slow') * 60;
		return rate > 0.005 && `${short(rate)} ${level}`;
	});
	say($('logs-n'), joined([`${found.length} known`, joined(loud, ', ')], '; a minute: '));
	drawTable('patterns', [['Level'], ['A minute', 'n', 'Messages in a minute, as of the last half minute'], ['Example', 'sample', 'The first message of the pattern'],
		['Container', 'name'], ['In all', 'n', 'Messages since the container was first seen']], found.slice(0, 30).map(s => {
		const { level = 'unknown', container_id: id = '', sample, pattern_hash: hash } = s.labels;
		const rate = perMinute(s);
		return [[level, 'level l-' + LEVELS.indexOf(level)], count(+rate.toFixed(rate < 10 ? 1 : 0)), sample || hash || '–', brief(id), count(s.value)];
	}));
}

// Programs: families that are not nodeprobe's own

const OWN = /^(node_|container_|nodeprobe_|promhttp_|ebpf_exporter_(build_info|enabled_configs|ebpf_program_|decoder_errors))/;
const named = labels => Object.keys(labels).filter(name => !/^(le|machine_id|system_uuid)$/.test(name)).map(name => `${name}=${labels[name]}`).join(' ');

// Histograms of a family: growth in each bucket, or all there is before anything grows.
function histograms(family) {
	const found = new Map();
	for (const s of family.series) {
		const key = named(s.labels);
		const one = entry(found, key, () => ({ key, buckets: [], rate: NaN, total: 0 }));
		if (s.part === '_bucket') one.buckets.push([number(s.labels.le), s]);
		if (s.part === '_count') [one.rate, one.total] = [s.slow, s.value];
	}
	for (const one of found.values()) {
		one.buckets.sort((a, b) => a[0] - b[0]);
		const growing = one.rate > 1e-6;
		const sums = one.buckets.map(([bound, s]) => [bound, growing ? s.slow : s.value]);
		one.cells = sums.map(([bound, value], at) => [bound, max(0, value - (at ? sums[at - 1][1] : 0))]);
		one.quantiles = [0.5, 0.99].map(q => quantile(q, sums));
	}
	return [...found.values()].sort((a, b) => (b.rate || 0) - (a.rate || 0) || b.total - a.total);
}

function drawHistogram(row, one, unit) {
	const [label, text, heat] = row.children;
	say(label, one.key || 'all', one.key);
	const [half, most] = one.quantiles.map(unit);
	say(text, `${perSecond(one.rate)} · p50 ${half} · p99 ${most}`);
	const peak = max(1e-9, ...one.cells.map(cell => cell[1]));
	fill(heat, one.cells, () => el('i', '', el('b')), (cell, [bound, value], at) => {
		cell.title = `${at ? unit(one.cells[at - 1][0]) : '0'} to ${bound === Infinity ? '∞' : unit(bound)}: ${percent(value / sum(one.cells, 1))}`;
		cell.firstChild.style.opacity = value ? 0.15 + 0.85 * Math.sqrt(value / peak) : 0;
	});
}

function drawPrograms() {
	const mine = [...families.values()].filter(f => f.series.length && !OWN.test(f.name));
	say($('programs-n'), mine.length ? plural(mine.length, 'metric') : 'none: nodeprobe --programs=biolatency measures disks, for one');
	const FEW = 8;
	fill($('families'), mine, () => el('div', 'tile family', el('h3'), el('p', 'of'), el('div', 'lines'), el('p', 'of')), (tile, family) => {
		const [h, help, lines, rest] = tile.children;
		say(h, family.name.replace(/^ebpf_exporter_/, ''));
		say(help, family.help);
		const unit = /_seconds(_total)?$/.test(family.name) ? time : /_bytes(_total)?$/.test(family.name) ? bytes : count;
		const counts = family.type === 'counter';
		const weight = s => counts ? s.slow || 0 : s.value;
		const rows = family.type === 'histogram' ? histograms(family) : [...family.series].sort((a, b) => weight(b) - weight(a));
		if (lines.dataset.type !== family.type) lines.replaceChildren();
		lines.dataset.type = family.type;
		fill(lines, rows.slice(0, FEW), () => el('div', '', el('span', 'what'), el('span', 'n'), el('span', 'heat')), (row, one) => {
			if (one.cells) return drawHistogram(row, one, unit);
			const name = named(one.labels);
			say(row.children[0], name || 'all', name);
			say(row.children[1], counts ? orDash(v => unit(v) + '/s')(one.slow) : unit(one.value));
		});
		say(rest, rows.length > FEW ? `and ${rows.length - FEW} more` : '');
	});
}

// The agent itself

function drawAgent() {
	const value = name => valueOf('nodeprobe_' + name);
	say($('cost'), `Takes ${percent(only('nodeprobe_cpu_seconds_total')?.rate)} of a core, ${bytes(value('resident_memory_bytes'))} of memory and ${bytes(value('bpf_map_memory_bytes'))} in BPF maps; ${count(known.size)} series, ${bytes(size)} of text; running for ${age(value('uptime_seconds'))}.`);
	const tell = (what, name) => find('nodeprobe_collector_' + what, 'collector', name)?.value;
	const list = all('nodeprobe_collector_info').map(({ labels: { collector, reason } }) => {
		if (reason !== 'ok') return [collector, 'absent', reason];
		if (tell('up', collector) === 1) return [collector, 'ok', time(tell('seconds', collector))];
		return [collector, 'broken', `last worked ${age(tell('last_success_age_seconds', collector))} ago`];
	});
	const states = ['broken', 'absent', 'ok'];
	list.sort((a, b) => states.indexOf(a[1]) - states.indexOf(b[1]) || order(a[0], b[0]));
	fill($('collectors'), list, () => el('li', '', el('b'), el('em'), el('span')), (item, texts) => {
		item.className = 's-' + texts[1];
		texts.forEach((text, at) => say(item.children[at], text));
		item.title = texts[2];
	});
}

// Time: one question at a time, none while nobody looks

let size = 0;
let heard = 0;
let paused = false;
let asking = false;
let timer = 0;

function draw() {
	drawContainers();
	drawMap();
	drawLogs();
}

function measured(name, work) {
	const start = performance.now();
	work();
	performance.clearMeasures(name);
	performance.measure(name, { start });
}

function state(name, text, note = '') {
	$('state').dataset.state = name;
	say($('state'), text);
	say($('away'), note);
	$('away').hidden = !note;
}

async function ask() {
	clearTimeout(timer);
	if (asking || paused || document.hidden) return;
	asking = true;
	const began = Date.now();
	try {
		const answer = await fetch($('source').getAttribute('href'), { cache: 'no-store', signal: AbortSignal.timeout(20000) });
		if (!answer.ok) throw new Error(`answered ${answer.status}`);
		const text = await answer.text();
		size = text.length;
		measured('read', () => {
			take(text, performance.now());
			readContainers();
		});
		measured('draw', () => {
			drawNode();
			draw();
			drawPrograms();
			drawAgent();
		});
		heard = Date.now();
		if (!paused) state('live', `live, every ${PERIOD / 1000} s`);
	} catch (error) {
		if ($('state').dataset.state !== 'away') {
			const since = heard ? ' since ' + clock(heard) : '';
			state('away', 'not reached' + since, (heard ? `nodeprobe has not been reached${since}; what is below is from then.` : 'nodeprobe cannot be reached.') + ' Trying again.');
		}
		console.info(`nodeprobe: ${error.message}`);
	}
	asking = false;
	timer = setTimeout(ask, max(1000, PERIOD - (Date.now() - began)));
}

on(document, 'visibilitychange', ask);
on($('pause'), 'click', () => {
	paused = !paused;
	$('pause').ariaPressed = paused;
	if (paused) state('wait', 'paused');
	else ask();
});
on($('filter'), 'input', event => filter(event.target.value));
on(window, 'keydown', event => {
	if (event.key === 'Escape' && needle) filter('');
	else if (event.key === '/' && event.target.tagName !== 'INPUT') {
		event.preventDefault();
		$('filter').focus();
	}
});
let moved = 0;
on(pane, 'scroll', () => {
	moved ||= requestAnimationFrame(() => {
		moved = 0;
		drawRows();
	});
});
on(window, 'resize', () => {
	drawRows();
	drawMap();
});

head($('table'), COLUMNS, sortBy);
ask();
