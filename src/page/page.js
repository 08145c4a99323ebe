// What is drawn, but for the map, and when.

const PERIOD = 5000;
const ROW = 38;

// The node

const histories = {};
function history(name, value) {
	histories[name] ??= new History();
	histories[name].add(value);
	return histories[name];
}

function nodeTiles() {
	const tiles = [];
	const cores = only('node_resources_cpu_logical_cores')?.value;
	const modes = all('node_resources_cpu_usage_seconds_total').map(s => [s.labels.mode, s.rate / cores]);
	const busy = modes.filter(([mode]) => mode !== 'idle');
	const cpu = busy.reduce((total, [, share]) => total + share, 0);
	if (modes.length) {
		tiles.push({
			title: 'CPU', big: percent(cpu), of: `of ${cores} ${cores === 1 ? 'core' : 'cores'}`, lines: [history('cpu', cpu)],
			bar: busy.map(([mode, share]) => [mode, share]),
			facts: busy.filter(([mode, share]) => share > 0.001 || mode === 'user' || mode === 'system').map(([mode, share]) => [mode, percent(share), mode]),
		});
	}
	const [total, free, available] = ['total', 'free', 'available']
		.map(word => only(`node_resources_memory_${word}_bytes`)?.value);
	if (total) {
		const used = 1 - available / total;
		tiles.push({
			title: 'Memory', big: percent(used), of: `of ${bytes(total)}`, lines: [history('memory', used)],
			bar: [['used', used], ['cached', (available - free) / total]],
			facts: [['used', bytes(total - available), 'used'], ['cache', bytes(available - free), 'cached'], ['free', bytes(free)]],
		});
	}
	const stalls = ['cpu', 'memory', 'io', 'irq'].map(what => [what,
		...['some', 'full'].map(kind => all(`node_resources_${what}_pressure_waiting_seconds_total`).find(s => s.labels.kind === kind)?.rate)]);
	const felt = stalls.filter(([, some, full]) => some !== undefined || full !== undefined);
	if (felt.length) {
		const worst = Math.max(...felt.map(([, some, full]) => some ?? full ?? 0));
		tiles.push({
			title: 'Pressure', big: percent(worst), of: 'of the time something waits', lines: [history('pressure', worst)],
			facts: felt.map(([what, some, full]) =>
				[what === 'memory' ? what : what === 'io' ? 'I/O' : what.toUpperCase(), some === undefined ? percent(full) : `${percent(some)}, all ${percent(full)}`]),
		});
	}
	const busiest = (list, n) => list.sort((a, b) => (b[2] || 0) - (a[2] || 0)).slice(0, n);
	const read = all('node_resources_disk_read_bytes_total'), written = all('node_resources_disk_written_bytes_total');
	if (read.length) {
		const [r, w] = [sum(read, 'rate'), sum(written, 'rate')];
		const disk = (family, device) => all(family).find(s => s.labels.device === device)?.rate;
		tiles.push({
			title: 'Disks', big: flow(r + (w || 0)), of: 'read and written', lines: [history('read', r), history('written', w)],
			facts: [['read', flow(r), 'first'], ['written', flow(w), 'second'], ...busiest(read.map(({ labels: { device } }) => {
				const share = disk('node_resources_disk_io_time_seconds_total', device);
				return [device, `${percent(share)} busy`, share];
			}), 3).map(([device, text]) => [device, text])],
		});
	}
	const received = all('node_net_received_bytes_total'), sent = all('node_net_transmitted_bytes_total');
	if (received.length) {
		const [i, o] = [sum(received, 'rate'), sum(sent, 'rate')];
		tiles.push({
			title: 'Network', big: flow(i + (o || 0)), of: 'received and sent', lines: [history('in', i), history('out', o)],
			facts: [['received', flow(i), 'first'], ['sent', flow(o), 'second'], ...busiest(received.map(({ labels: { interface: name }, rate }) => {
				const out = sent.find(s => s.labels.interface === name)?.rate;
				const up = all('node_net_interface_up').find(s => s.labels.interface === name)?.value;
				return [name, up === 0 ? 'down' : `↓ ${flow(rate)} ↑ ${flow(out)}`, rate];
			}), 3).map(([name, text]) => [name, text])],
		});
	}
	const info = only('node_info')?.labels || {}, cloud = only('node_cloud_info')?.labels;
	const facts = [['containers', count(containers.size)]];
	if (cloud?.provider) {
		facts.push(['cloud', [cloud.provider, cloud.instance_type].filter(Boolean).join(' ')]);
		facts.push(['zone', cloud.availability_zone || cloud.region || '–'], ['instance', cloud.instance_id || '–']);
	}
	const noticed = only('node_cloud_interruption_notice')?.value === 1;
	tiles.push({
		title: 'Up', big: age(only('node_uptime_seconds')?.value), facts, lines: [], bad: noticed,
		of: noticed ? 'the cloud will take this instance away' : `since boot of Linux ${info.kernel_version || ''}`,
	});
	return tiles;
}

function drawNode() {
	const info = only('node_info')?.labels || {};
	say($('who'), info.hostname || '');
	document.title = (info.hostname ? info.hostname + ' · ' : '') + 'nodeprobe';
	const make = () => el('div', 'tile', el('h3'), el('p', 'big'), el('p', 'of'), newSpark(), el('div', 'bar'), el('dl'));
	fill($('tiles'), nodeTiles(), make, (tile, { title, big, of, lines, bar = [], facts, bad }) => {
		const [h, value, under, drawing, stack, list] = tile.children;
		say(h, title);
		say(value, big);
		say(under, of);
		under.classList.toggle('bad', !!bad);
		spark(drawing, lines);
		drawing.classList.toggle('none', !lines.length);
		stack.hidden = !bar.length;
		fill(stack, bar, () => el('i'), (part, [name, share]) => {
			part.className = 'm-' + name;
			part.style.width = Math.max(0, share * 100 || 0) + '%';
		});
		fill(list, facts, () => el('div', '', el('dt'), el('dd')), ({ children: [dt, dd] }, [name, text, mark]) => {
			say(dt, name);
			say(dd, text);
			dd.title = text;
			dt.className = mark ? 'key m-' + mark : '';
		});
	});
}

// Containers

const containers = new Map();
// What rates are added up from, and what values.
const RATES = {
	cpu: 'resources_cpu_usage_seconds_total', throttled: 'resources_cpu_throttled_seconds_total',
	received: 'net_received_bytes_total', sent: 'net_transmitted_bytes_total',
	cpuWait: 'resources_cpu_delay_seconds_total', diskWait: 'resources_disk_delay_seconds_total',
};
const VALUES = {
	memory: 'resources_memory_working_set_bytes', memoryLimit: 'resources_memory_limit_bytes', limit: 'resources_cpu_limit_cores',
	restarts: 'restarts_total', kills: 'oom_kills_total',
};

function readContainers() {
	const of = s => {
		const id = s.labels.container_id;
		let c = containers.get(id);
		if (!c) {
			containers.set(id, c = { id, name: brief(id), place: id.slice(1, -brief(id).length - 1), cpus: new History(), turn: 0 });
		}
		if (c.turn !== turn) {
			c.turn = turn;
			for (const field in RATES) c[field] = NaN;
			for (const field in VALUES) c[field] = NaN;
			c.pressure = NaN;
			c.image = c.app = c.stalls = '';
		}
		return c;
	};
	const gather = (names, value) => {
		for (const field in names) {
			for (const s of all('container_' + names[field])) {
				const c = of(s);
				c[field] = (c[field] || 0) + value(s);
			}
		}
	};
	gather(RATES, s => s.rate);
	gather(VALUES, s => s.value);
	for (const what of ['cpu', 'memory', 'io']) {
		for (const s of all(`container_resources_${what}_pressure_waiting_seconds_total`)) {
			if (s.labels.kind !== 'some') continue;
			const c = of(s);
			if (!(c.pressure >= s.rate)) [c.pressure, c.stalls] = [s.rate, what === 'io' ? 'I/O' : what === 'cpu' ? 'CPU' : what];
		}
	}
	for (const s of all('container_info')) of(s).image = s.labels.image || '';
	for (const s of all('container_application_type')) {
		const c = of(s);
		c.app += (c.app && ', ') + s.labels.application_type;
	}
	for (const c of containers.values()) {
		if (c.turn !== turn) {
			containers.delete(c.id);
			continue;
		}
		c.share = c.memory / c.memoryLimit;
		c.cpus.add(c.cpu);
		c.under = [c.place, c.app, c.image].filter(Boolean).join(' · ');
		c.text = `${c.id} ${c.under}`;
	}
}

// Title, what it means, field, format, from where on it is remarkable and bad.
const COLUMNS = [
	['Container', 'Name; below, where it runs, its kind and its image', 'name', String],
	['CPU', 'Cores in use; the line is the last minutes', 'cpu', orDash(v => v && v < 0.0005 ? '<0.001' : v && v < 0.1 ? v.toFixed(3) : short(v))],
	['Throttled', 'Share of the time its CPU limit kept it from running', 'throttled', percent, 0.02, 0.25],
	['Memory', 'Working set: what counts against the limit, less inactive page cache', 'memory', bytes],
	['Of limit', 'Working set as a share of the memory limit', 'share', percent, 0.8, 0.95],
	['Pressure', 'Share of the time some task waited for CPU, memory or I/O, whichever is most', 'pressure', percent, 0.1, 0.4],
	['Received', 'Bytes received', 'received', flow],
	['Sent', 'Bytes sent', 'sent', flow],
	['CPU wait', 'Time its threads were ready to run and waited for a processor', 'cpuWait', wait],
	['Disk wait', 'Time its threads waited for block I/O', 'diskWait', wait],
	['Restarts', 'Times it began anew', 'restarts', count, 1],
	['OOM kills', 'Processes killed for want of memory', 'kills', count, 0.5, 1],
];
let sorted = 1;
let downwards = true;
let shown = [];

// Column heads that sort; `click` gets the column.
function head(table, columns, click) {
	table.tHead.rows[0].replaceChildren(...columns.map(([title, help], at) => {
		const cell = el('th');
		cell.scope = 'col';
		if (help) cell.title = help;
		if (!click) cell.append(title);
		else {
			const button = el('button', '', title);
			button.type = 'button';
			button.addEventListener('click', () => click(at));
			cell.append(button);
		}
		return cell;
	}));
}

function sortBy(at) {
	downwards = at === sorted ? !downwards : at > 0;
	sorted = at;
	$('window').scrollTop = 0;
	drawContainers();
}

function drawContainers() {
	const field = COLUMNS[sorted][2];
	shown = [...containers.values()].filter(c => matches(c.text));
	const sign = downwards ? -1 : 1;
	shown.sort((a, b) => {
		const [x, y] = [a[field], b[field]];
		if (x === y || (x !== x && y !== y)) return a.id < b.id ? -1 : 1;
		if (x !== x || y !== y) return x !== x ? 1 : -1;
		return x < y ? -sign : sign;
	});
	[...$('table').tHead.rows[0].cells].forEach((cell, at) =>
		at === sorted ? cell.setAttribute('aria-sort', downwards ? 'descending' : 'ascending') : cell.removeAttribute('aria-sort'));
	say($('containers-n'), needle ? `${shown.length} of ${containers.size}` : String(containers.size));
	drawRows();
}

// Only what can be seen is in the document; two rows of the right height stand for the rest.
function drawRows() {
	const box = $('window'), table = $('table');
	const [above, body, below] = table.tBodies;
	const begin = shown.length <= 60 ? 0 : Math.max(0, Math.min(Math.floor(box.scrollTop / ROW) - 6, shown.length - 20));
	const visible = shown.slice(begin, shown.length <= 60 ? 60 : begin + Math.ceil(box.clientHeight / ROW) + 12);
	table.setAttribute('aria-rowcount', shown.length + 1);
	const gap = (part, rows) => {
		part.hidden = !rows;
		part.rows[0].cells[0].style.height = rows * ROW + 'px';
	};
	gap(above, begin);
	gap(below, shown.length - begin - visible.length);
	fill(body, visible, newRow, (row, c, at) => {
		row.container = c;
		row.setAttribute('aria-rowindex', begin + at + 2);
		const [button, under] = row.cells[0].children;
		say(button, c.name);
		button.title = c.id;
		say(under, c.under);
		under.title = c.under;
		COLUMNS.forEach(([, , field, format, remarkable, bad], at) => {
			if (!at) return;
			const cell = row.cells[at], value = c[field];
			say(cell.lastChild, format(value) + (at === 5 && value >= 0.005 ? ' ' + c.stalls : ''));
			cell.className = value >= bad ? 'bad' : value >= remarkable ? 'warn' : value ? '' : 'nil';
		});
		spark(row.cells[1].firstChild, [c.cpus]);
		row.cells[4].firstChild.firstChild.style.width = Math.min(1, c.share || 0) * 100 + '%';
		row.cells[4].firstChild.hidden = !(c.share >= 0);
	});
}

function newRow() {
	const row = el('tr');
	const name = el('th', '', el('button', 'link'), el('span', 'under'));
	name.scope = 'row';
	name.firstChild.type = 'button';
	name.firstChild.addEventListener('click', () => filter(row.container.id));
	row.append(name);
	for (let at = 1; at < COLUMNS.length; at++) {
		const cell = el('td');
		if (at === 1) cell.append(newSpark());
		if (at === 4) cell.append(el('i', 'meter', el('i')));
		cell.append(el('span'));
		row.append(cell);
	}
	return row;
}

function filter(text) {
	$('filter').value = text;
	needle = text.trim().toLowerCase();
	$('window').scrollTop = 0;
	draw();
}

// Plain tables: the text of each cell, and what class it has.
function drawTable(id, columns, rows) {
	const table = $(id);
	if (!table.tHead.rows[0].cells.length) head(table, columns);
	fill(table.tBodies[0], rows, () => el('tr', '', ...columns.map(() => el('td'))), (row, cells) => {
		cells.forEach((cell, at) => {
			const [text, name = columns[at][2] || ''] = Array.isArray(cell) ? cell : [cell];
			say(row.cells[at], text);
			row.cells[at].className = name;
			row.cells[at].title = text.length > 24 ? text : '';
		});
	});
}

// Logs

const LEVELS = ['critical', 'error', 'warning', 'info', 'debug', 'unknown'];

function drawLogs() {
	const messages = all('container_log_messages_total');
	const perMinute = s => (s.slow || 0) * 60;
	const found = messages.filter(s => matches(`${s.labels.container_id} ${s.labels.sample} ${s.labels.level}`));
	const rank = s => LEVELS.indexOf(s.labels.level);
	found.sort((a, b) => perMinute(b) - perMinute(a) || rank(a) - rank(b) || b.value - a.value);
	const levels = LEVELS.map(level => [level, sum(found.filter(s => s.labels.level === level).map(perMinute).map(value => ({ value })))]);
	const loud = levels.filter(([, rate]) => rate > 0.005).map(([level, rate]) => `${short(rate)} ${level}`);
	say($('logs-n'), `${found.length} known` + (loud.length ? '; a minute: ' + loud.join(', ') : ''));
	drawTable('patterns', [['Level'], ['A minute', 'Messages in a minute, as of the last half minute', 'n'], ['Example', 'The first message of the pattern', 'sample'],
		['Container'], ['In all', 'Messages since the container was first seen', 'n']], found.slice(0, 30).map(s => {
		const { level = 'unknown', container_id: id = '', sample, pattern_hash: hash } = s.labels;
		return [[level, 'level l-' + LEVELS.indexOf(level)], count(Number(perMinute(s).toFixed(perMinute(s) < 10 ? 1 : 0))), sample || hash || '–',
			[brief(id), 'name'], count(s.value)];
	}));
}

// Programs: families that are not nodeprobe's own

const OWN = /^(node_|container_|nodeprobe_|promhttp_|ebpf_exporter_(build_info|enabled_configs|ebpf_program_|decoder_errors))/;
const named = labels => Object.entries(labels).filter(([name]) => name !== 'le' && name !== 'machine_id' && name !== 'system_uuid')
	.map(([name, value]) => `${name}=${value}`).join(' ');

// Histograms of a family: growth in each bucket, or all there is before anything grows.
function histograms(family) {
	const found = new Map();
	for (const s of family.series) {
		const key = named(s.labels);
		if (!found.has(key)) found.set(key, { key, buckets: [], rate: NaN, total: 0 });
		const one = found.get(key);
		if (s.part === '_bucket') one.buckets.push([number(s.labels.le), s]);
		if (s.part === '_count') [one.rate, one.total] = [s.slow, s.value];
	}
	for (const one of found.values()) {
		one.buckets.sort((a, b) => a[0] - b[0]);
		const growing = one.rate > 1e-6;
		const sums = one.buckets.map(([bound, s]) => [bound, growing ? s.slow : s.value]);
		one.cells = sums.map(([bound, value], at) => [bound, Math.max(0, value - (at ? sums[at - 1][1] : 0))]);
		one.quantiles = [0.5, 0.99].map(q => quantile(q, sums));
	}
	return [...found.values()].sort((a, b) => (b.rate || 0) - (a.rate || 0) || b.total - a.total);
}

function drawHistogram(row, one, unit) {
	const [label, text, heat] = row.children;
	say(label, one.key || 'all');
	label.title = one.key;
	const [half, most] = one.quantiles.map(unit);
	say(text, `${perSecond(one.rate)} · p50 ${half} · p99 ${most}`);
	const peak = Math.max(1e-9, ...one.cells.map(cell => cell[1]));
	fill(heat, one.cells, () => el('i', '', el('b')), (cell, [bound, value], at) => {
		cell.title = `${at ? unit(one.cells[at - 1][0]) : '0'} to ${bound === Infinity ? '∞' : unit(bound)}: ${percent(value / sum(one.cells, 1))}`;
		cell.firstChild.style.opacity = value ? 0.15 + 0.85 * Math.sqrt(value / peak) : 0;
	});
}

function drawPrograms() {
	const mine = [...families.values()].filter(f => f.series.length && !OWN.test(f.name));
	say($('programs-n'), mine.length ? `${mine.length} ${mine.length === 1 ? 'metric' : 'metrics'}` : 'none: nodeprobe --programs=biolatency measures disks, for one');
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
			say(row.children[0], named(one.labels) || 'all');
			row.children[0].title = named(one.labels);
			say(row.children[1], counts ? (unit === count ? perSecond : v => unit(v) + '/s')(one.slow) : unit(one.value));
		});
		say(rest, rows.length > FEW ? `and ${rows.length - FEW} more` : '');
	});
}

// The agent itself

function drawAgent(size) {
	const value = name => only('nodeprobe_' + name)?.value;
	say($('cost'), `Takes ${percent(only('nodeprobe_cpu_seconds_total')?.rate)} of a core, ${bytes(value('resident_memory_bytes'))} of memory`
		+ ` and ${bytes(value('bpf_map_memory_bytes'))} in BPF maps; ${count(known.size)} series, ${bytes(size)} of text; running for ${age(value('uptime_seconds'))}.`);
	const find = (family, name) => all(family).find(s => s.labels.collector === name)?.value;
	const list = all('nodeprobe_collector_info').map(({ labels: { collector, reason } }) => {
		const up = find('nodeprobe_collector_up', collector) === 1;
		const took = find('nodeprobe_collector_seconds', collector);
		const state = reason !== 'ok' ? 'absent' : up ? 'ok' : 'broken';
		return [collector, state, state === 'absent' ? reason : state === 'ok' ? time(took)
			: 'last worked ' + age(find('nodeprobe_collector_last_success_age_seconds', collector)) + ' ago'];
	});
	const order = ['broken', 'absent', 'ok'];
	list.sort((a, b) => order.indexOf(a[1]) - order.indexOf(b[1]) || (a[0] < b[0] ? -1 : 1));
	fill($('collectors'), list, () => el('li', '', el('b'), el('em'), el('span')), (item, [name, state, text]) => {
		item.className = 's-' + state;
		[name, state, text].forEach((text, at) => say(item.children[at], text));
		item.title = text;
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

function state(name, text) {
	$('state').dataset.state = name;
	say($('state'), text);
	$('away').hidden = name !== 'away';
	if (name !== 'away') say($('away'), '');
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
			drawAgent(size);
		});
		heard = Date.now();
		if (!paused) state('live', `live, every ${PERIOD / 1000} s`);
	} catch (error) {
		if ($('state').dataset.state !== 'away') {
			state('away', heard ? 'not reached since ' + clock(heard) : 'not reached');
			say($('away'), (heard ? `nodeprobe has not been reached since ${clock(heard)}; what is below is from then. ` : 'nodeprobe cannot be reached. ') + 'Trying again.');
		}
		console.info(`nodeprobe: ${error.message}`);
	}
	asking = false;
	if (!paused && !document.hidden) timer = setTimeout(ask, Math.max(1000, PERIOD - (Date.now() - began)));
}

document.addEventListener('visibilitychange', ask);
$('pause').addEventListener('click', () => {
	paused = !paused;
	$('pause').setAttribute('aria-pressed', paused);
	if (paused) state('wait', 'paused');
	else ask();
});
$('filter').addEventListener('input', event => filter(event.target.value));
addEventListener('keydown', event => {
	if (event.key === 'Escape' && needle) filter('');
	else if (event.key === '/' && event.target.tagName !== 'INPUT') {
		event.preventDefault();
		$('filter').focus();
	}
});
let moved = 0;
$('window').addEventListener('scroll', () => {
	moved ||= requestAnimationFrame(() => {
		moved = 0;
		drawRows();
	});
}, { passive: true });
addEventListener('resize', () => {
	drawRows();
	drawMap();
});

head($('table'), COLUMNS, sortBy);
for (const place of ['prepend', 'append']) {
	const gap = el('tbody', 'gap', el('tr', '', el('td')));
	gap.setAttribute('aria-hidden', 'true');
	if (place === 'prepend') $('table').tBodies[0].before(gap);
	else $('table').append(gap);
}
ask();
