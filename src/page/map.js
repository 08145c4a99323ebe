// The service map: who connects to whom, from left to right.

const WIDE = 12;
let most = 24;

const isLocal = address => /^(127\.|\[::1\])/.test(address);

// Edges between containers, and from containers to addresses nobody here listens at.
function readEdges() {
	const listeners = new Map();
	for (const { labels, value } of all('container_net_tcp_listen_info')) {
		if (!value) continue;
		if (!listeners.has(labels.listen_addr)) listeners.set(labels.listen_addr, []);
		listeners.get(labels.listen_addr).push(labels.container_id);
	}
	const resolve = (from, address) => {
		const those = listeners.get(address) || [];
		// An address of a loopback is another one in each network namespace.
		if (those.includes(from)) return from;
		return isLocal(address) && those.length > 1 ? address : those[0] || address;
	};
	const latencies = new Map(all('container_net_latency_seconds').map(s => [s.labels.container_id + ' ' + s.labels.destination_ip, s.value]));
	const found = new Map();
	// Where connects to a translated address really went.
	const behind = new Map();
	const edge = ({ container_id: from, destination, actual_destination: actual }) => {
		const address = actual || behind.get(from + ' ' + destination) || destination;
		if (actual) behind.set(from + ' ' + destination, actual);
		const to = resolve(from, address), key = from + ' ' + to;
		if (!found.has(key)) {
			found.set(key, { from, to, rate: 0, failed: 0, active: 0, total: 0, refused: 0, took: 0, sent: 0, received: 0, again: 0, latency: NaN });
		}
		const it = found.get(key);
		const heard = latencies.get(from + ' ' + address.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
		if (!(it.latency <= heard) && heard !== undefined) it.latency = heard;
		return it;
	};
	const gather = (name, add) => all('container_net_' + name).forEach(s => add(edge(s.labels), s.slow || 0, s.value));
	gather('tcp_successful_connects_total', (it, rate, value) => {
		it.rate += rate;
		it.total += value;
	});
	gather('tcp_failed_connects_total', (it, rate, value) => {
		it.failed += rate;
		it.refused += value;
	});
	gather('tcp_connection_time_seconds_total', (it, rate) => it.took += rate);
	gather('tcp_active_connections', (it, _, value) => it.active += value);
	gather('tcp_retransmits_total', (it, rate) => it.again += rate);
	gather('tcp_bytes_sent_total', (it, rate) => it.sent += rate);
	gather('tcp_bytes_received_total', (it, rate) => it.received += rate);
	const edges = [...found.values()].filter(it => it.total || it.refused || it.active);
	for (const it of edges) {
		if (!(it.latency >= 0) && it.rate > 0.001) it.latency = it.took / it.rate;
		it.weight = it.rate + 3 * it.failed + 0.1 * it.active + 0.001 * Math.log1p(it.total + it.refused);
	}
	return edges.sort((a, b) => b.weight - a.weight || (a.from + a.to < b.from + b.to ? -1 : 1));
}

// Gives each node a layer to the right of those that connect to it, but for edges that close a circle.
function layer(nodes, edges) {
	for (const edge of edges) {
		edge.source = nodes.get(edge.from);
		edge.target = nodes.get(edge.to);
		edge.source.out.push(edge);
		edge.target.in.push(edge);
	}
	const visit = node => {
		node.mark = 1;
		for (const edge of node.out) {
			edge.back = edge.target.mark === 1;
			if (!edge.back && !edge.target.mark) visit(edge.target);
		}
		node.mark = 2;
	};
	const inOrder = [...nodes.values()].sort((a, b) => a.in.length - b.in.length || (a.id < b.id ? -1 : 1));
	inOrder.forEach(node => node.mark || visit(node));
	for (let round = 0, moved = true; moved && round < nodes.size; round++) {
		moved = false;
		for (const { source, target, back } of edges) {
			if (!back && target.layer <= source.layer) {
				target.layer = source.layer + 1;
				moved = true;
			}
		}
	}
}

// Columns of nodes, and of points where edges pass a column; each edge knows its way.
function columns(nodes, edges) {
	const list = [];
	const put = node => (list[node.layer] ??= []).push(node);
	const bind = (a, b) => {
		a.right.push(b);
		b.left.push(a);
	};
	[...nodes.values()].sort((a, b) => a.id < b.id ? -1 : 1).forEach(put);
	for (const edge of edges) {
		const [a, b] = edge.back ? [edge.target, edge.source] : [edge.source, edge.target];
		edge.way = [a];
		for (let at = a.layer + 1; at < b.layer; at++) {
			const point = { layer: at, height: 8, left: [], right: [] };
			put(point);
			edge.way.push(point);
		}
		edge.way.push(b);
		edge.way.slice(1).forEach((next, at) => bind(edge.way[at], next));
	}
	const number = column => column.forEach((node, at) => node.at = at);
	list.forEach(number);
	const mean = (side, field, node) => node[side].length ? node[side].reduce((total, other) => total + other[field], 0) / node[side].length : node[field];
	for (let round = 0; round < 6; round++) {
		const side = round % 2 ? 'right' : 'left';
		for (const column of round % 2 ? list.toReversed() : list) {
			column.forEach(node => node.want = mean(side, 'at', node));
			column.sort((a, b) => a.want - b.want);
			number(column);
		}
	}
	const GAP = 18;
	const tall = column => column.reduce((total, node) => total + node.height + GAP, 0);
	const height = Math.max(...list.map(tall));
	for (const column of list) {
		let y = (height - tall(column)) / 2 + GAP / 2;
		for (const node of column) {
			node.y = y + node.height / 2;
			y += node.height + GAP;
		}
	}
	// Towards their neighbours, as far as the order allows.
	for (let round = 0; round < 4; round++) {
		for (const column of round % 2 ? list.toReversed() : list) {
			const apart = at => (column[at].height + column[at + 1].height) / 2 + GAP;
			column.forEach(node => node.y = mean(round % 2 ? 'right' : 'left', 'y', node));
			for (let at = 0; at < column.length; at++) column[at].y = Math.max(column[at].y, at ? column[at - 1].y + apart(at - 1) : column[0].height / 2 + GAP / 2);
			for (let at = column.length - 1; at >= 0; at--) {
				column[at].y = Math.min(column[at].y, at < column.length - 1 ? column[at + 1].y - apart(at) : height - column[at].height / 2 - GAP / 2);
			}
		}
	}
	return { list, height };
}

// Edges leave and enter a box one below the other.
function ports(nodes) {
	for (const node of nodes) {
		for (const side of ['left', 'right']) {
			const mine = node.edges.filter(([, end]) => end === side).sort((a, b) => a[2].y - b[2].y);
			mine.forEach(([edge], at) => edge[side] = node.y + (at - (mine.length - 1) / 2) * Math.min(7, 26 / mine.length));
		}
	}
}

function drawMap() {
	const edges = readEdges().filter(it => matches(`${it.from} ${it.to} ${containers.get(it.from)?.text} ${containers.get(it.to)?.text}`));
	drawEdges(edges);
	const nodes = new Map();
	const left = new Set();
	const chosen = edges.filter(({ from, to }) => {
		if (from === to) return false;
		const fresh = [from, to].filter(id => !nodes.has(id));
		if (nodes.size + fresh.length > most) {
			fresh.forEach(id => left.add(id));
			return false;
		}
		for (const id of fresh) nodes.set(id, { id, layer: 0, height: 36, in: [], out: [], left: [], right: [], edges: [] });
		return true;
	});
	nodes.forEach((_, id) => left.delete(id));
	$('map-more').hidden = !left.size;
	say($('map-more').firstChild, `The busiest ${nodes.size} of them, and ${left.size} more.`);
	say($('map-n'), chosen.length ? `${nodes.size} nodes, ${chosen.length} connections` : 'no outbound TCP connections of containers');
	const box = $('map-box');
	if (!chosen.length) return box.replaceChildren();
	layer(nodes, chosen);
	const { list, height } = columns(nodes, chosen);
	const narrow = box.clientWidth < 640;
	const width = narrow ? 132 : 200;
	const room = box.clientWidth - 34;
	const gap = Math.max(narrow ? 104 : 140, Math.min(300, (room - list.length * width) / Math.max(1, list.length - 1)));
	const x = column => column * (width + gap) + 2;
	for (const edge of chosen) {
		edge.way[0].edges.push([edge, 'right', edge.way[1]]);
		edge.way.at(-1).edges.push([edge, 'left', edge.way.at(-2)]);
	}
	ports(nodes.values());
	const drawn = svg('svg', {
		width: x(list.length - 1) + width + 2, height, role: 'img', 'aria-labelledby': 'map-t map-d',
	}, svg('title', { id: 'map-t' }, 'Service map'), svg('desc', { id: 'map-d' },
		`${nodes.size} containers and destinations, ${chosen.length} connections between them. The table below says the same in words.`));
	const head = (id, name) => svg('marker', { id, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: 'userSpaceOnUse', orient: 'auto-start-reverse' },
		svg('path', { d: 'M0 0l8 4-8 4z', class: name }));
	drawn.append(svg('defs', {}, head('arrow', 'tip'), head('arrow-bad', 'tip bad')));
	const labels = [];
	labels.narrow = narrow;
	for (const edge of chosen) drawn.append(drawEdge(edge, x, width, labels));
	for (const node of nodes.values()) drawn.append(drawBox(node, x(node.layer), width));
	const taken = [...nodes.values()].map(({ layer, y }) => ({ x: x(layer), y: y - 18, w: width, h: 36 }));
	for (const label of labels) drawLabel(label, taken, drawn);
	box.replaceChildren(drawn);
}

function drawEdge(edge, x, width, labels) {
	const { way, back } = edge;
	let [px, py] = [x(way[0].layer) + width, edge.right];
	let path = `M${px} ${py}`;
	const spots = [];
	way.slice(1).forEach((point, at) => {
		const isLast = at === way.length - 2;
		const [nx, ny] = [x(point.layer), isLast ? edge.left : point.y];
		const middle = (px + nx) / 2;
		path += `C${middle} ${py} ${middle} ${ny} ${nx} ${ny}`;
		// Points of the curve where its label could be.
		for (const t of [0.5, 0.6, 0.4, 0.7, 0.3]) {
			const s = 1 - t;
			spots.push([s ** 3 * px + 3 * s * t * middle + t ** 3 * nx, (s ** 3 + 3 * s * s * t) * py + (3 * s * t * t + t ** 3) * ny]);
		}
		[px, py] = [nx, ny];
		if (!isLast) path += `h${width}`, px += width;
	});
	const fails = edge.failed > 0.001 || !edge.total;
	const isBad = fails && edge.failed >= edge.rate;
	const thick = Math.min(WIDE, 1.2 + 1.6 * Math.log10(1 + 4 * (edge.rate + edge.failed)));
	const tip = `url(#${fails ? 'arrow-bad' : 'arrow'})`;
	const line = (name, more) => svg('path', { d: path, class: name, [back ? 'marker-start' : 'marker-end']: tip, ...more });
	const group = svg('g', {}, line(isBad ? 'edge bad' : edge.rate > 0.001 || edge.active ? 'edge' : 'edge idle', { 'stroke-width': thick.toFixed(1) }));
	if (fails && !isBad) group.append(line('edge bad', { 'stroke-width': 2.5, 'stroke-dasharray': '5 7' }));
	const words = [edge.rate > 0.001 ? perSecond(edge.rate) : edge.active ? `${count(edge.active)} open` : '', edge.latency >= 0 ? time(edge.latency) : ''].filter(Boolean);
	const failed = edge.failed > 0.001 ? `${perSecond(edge.failed)} failed` : edge.refused && !edge.total ? `${count(edge.refused)} failed` : '';
	group.append(svg('title', {}, `${edge.from} to ${edge.to}: ${[...words, failed].filter(Boolean).join(', ') || 'idle'}`));
	const lines = labels.narrow ? words : words.length ? [words.join(' · ')] : [];
	if (failed) lines.push(failed);
	if (lines.length) labels.push({ lines, failed, spots });
	return group;
}

function drawBox(node, x, width) {
	const container = containers.get(node.id);
	const group = svg('g', { class: container ? 'box' : 'box outside', transform: `translate(${x} ${(node.y - 18).toFixed(1)})` },
		svg('title', {}, node.id), svg('rect', { width, height: 36, rx: 6 }));
	group.append(svg('text', { x: 10, y: 15 }, fit(container ? brief(node.id) : node.id, width - 18, '600 12px ')));
	const under = container ? container.app || container.under : 'outside';
	group.append(svg('text', { x: 10, y: 29, class: 'under' }, fit(under, width - 18, '10.5px ')));
	return group;
}

// At the first of its places where nothing is yet; if there is none, the tooltip and the table must do.
function drawLabel({ lines, failed, spots }, taken, drawn) {
	const [w, h] = [Math.max(...lines.map(line => measure(line, '600 11px '))) + 8, lines.length * 13 + 3];
	const free = ([x, y]) => taken.every(box => x + w / 2 < box.x || x - w / 2 > box.x + box.w || y + h / 2 < box.y || y - h / 2 > box.y + box.h);
	const spot = spots.find(free);
	if (!spot) return;
	const [x, y] = spot;
	taken.push({ x: x - w / 2, y: y - h / 2, w, h });
	const text = svg('text', { class: 'says' });
	lines.forEach((line, at) => text.append(svg('tspan', { x, y: y - h / 2 + 12 + 13 * at, class: line === failed ? 'bad' : '' }, line)));
	drawn.append(svg('rect', { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 4, class: 'plate' }), text);
}

function drawEdges(edges) {
	if (!$('edges').closest('details').open) return;
	drawTable('edges', [['From'], ['To'], ['Connects', '', 'n'], ['Failed', '', 'n'], ['Open', '', 'n'], ['Latency', '', 'n'], ['Sent', '', 'n'], ['Received', '', 'n'], ['Retransmits', '', 'n']],
		edges.slice(0, 200).map(it => [it.from, it.to, perSecond(it.rate), [perSecond(it.failed), it.failed > 0.001 ? 'n bad' : 'n'], count(it.active), time(it.latency),
			flow(it.sent), flow(it.received), perSecond(it.again)]));
}

$('edges').closest('details').addEventListener('toggle', drawMap);
$('map-more').lastChild.addEventListener('click', () => {
	most *= 2;
	drawMap();
});
