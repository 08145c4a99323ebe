// The service map: who connects to whom, from left to right.

let most = 24;

// What an edge knows: the sums of these families, as rates if nothing else is said.
const FIGURES = [
	['rate', 'successful_connects_total'], ['total', 'successful_connects_total', 'value'],
	['failed', 'failed_connects_total'], ['refused', 'failed_connects_total', 'value'],
	['took', 'connection_time_seconds_total'], ['active', 'active_connections', 'value'],
	['again', 'retransmits_total'], ['sent', 'bytes_sent_total'], ['received', 'bytes_received_total'],
];

// Edges between containers, and from containers to addresses nobody here listens at.
function readEdges() {
	const listeners = new Map();
	for (const { labels, value } of ofContainers('net_tcp_listen_info')) {
		if (value) entry(listeners, labels.listen_addr, () => []).push(labels.container_id);
	}
	const latencies = new Map(ofContainers('net_latency_seconds').map(s => [s.labels.container_id + ' ' + s.labels.destination_ip, s.value]));
	const found = new Map();
	// Where connects to a translated address really went.
	const behind = new Map();
	const edge = ({ container_id: from, destination, actual_destination: actual }) => {
		const translated = from + ' ' + destination;
		if (actual) behind.set(translated, actual);
		const address = behind.get(translated) || destination;
		const those = listeners.get(address) || [];
		// An address of a loopback is another one in each network namespace.
		const isAnyones = those.length > 1 && /^(127\.|\[::1\])/.test(address);
		const to = those.includes(from) ? from : isAnyones ? address : those[0] || address;
		const it = entry(found, from + ' ' + to, () => {
			const fresh = { from, to, latency: NaN };
			for (const [field] of FIGURES) fresh[field] = 0;
			return fresh;
		});
		const heard = latencies.get(from + ' ' + address.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
		if (!(it.latency <= heard) && heard !== undefined) it.latency = heard;
		return it;
	};
	for (const [field, family, what = 'slow'] of FIGURES) {
		for (const s of ofContainers('net_tcp_' + family)) edge(s.labels)[field] += s[what] || 0;
	}
	const edges = [...found.values()].filter(it => it.total || it.refused || it.active);
	for (const it of edges) {
		if (!(it.latency >= 0) && it.rate > 0.001) it.latency = it.took / it.rate;
		it.weight = it.rate + 3 * it.failed + 0.1 * it.active + 0.001 * Math.log1p(it.total + it.refused);
	}
	return edges.sort((a, b) => b.weight - a.weight || order(a.from + a.to, b.from + b.to));
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
	const inOrder = [...nodes.values()].sort((a, b) => a.in.length - b.in.length || order(a.id, b.id));
	inOrder.forEach(node => node.mark || visit(node));
	let moved = true;
	for (let round = 0; moved && round < nodes.size; round++) {
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
	[...nodes.values()].sort((a, b) => order(a.id, b.id)).forEach(put);
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
	// Back and forth: what each node wants is the mean of its neighbours at one side.
	const sweep = (rounds, field, settle) => {
		for (let round = 0; round < rounds; round++) {
			for (const column of round % 2 ? list.toReversed() : list) {
				for (const node of column) {
					const others = node[round % 2 ? 'right' : 'left'];
					node.want = others.length ? sum(others, field) / others.length : node[field];
				}
				settle(column);
			}
		}
	};
	sweep(6, 'at', column => number(column.sort((a, b) => a.want - b.want)));
	const GAP = 18;
	const tall = column => sum(column, 'height') + GAP * column.length;
	const height = max(...list.map(tall));
	for (const column of list) {
		let y = (height - tall(column) + GAP) / 2;
		for (const node of column) {
			node.y = y + node.height / 2;
			y += node.height + GAP;
		}
	}
	// Towards their neighbours, as far as the order allows.
	sweep(4, 'y', column => {
		const apart = (a, b) => a && b ? (a.height + b.height) / 2 + GAP : ((a || b).height + GAP) / 2;
		column.forEach((node, at) => {
			const above = column[at - 1];
			node.y = max(node.want, (above?.y ?? 0) + apart(above, node));
		});
		column.toReversed().forEach((node, at, upwards) => {
			const below = upwards[at - 1];
			node.y = min(node.y, (below?.y ?? height) - apart(node, below));
		});
	});
	return { list, height };
}

// Edges leave and enter a box one below the other.
function ports(nodes, edges) {
	for (const node of nodes) {
		for (const [side, end, next] of [['left', -1, -2], ['right', 0, 1]]) {
			const mine = edges.filter(({ way }) => way.at(end) === node).sort((a, b) => a.way.at(next).y - b.way.at(next).y);
			mine.forEach((edge, at) => edge[side] = node.y + (at - (mine.length - 1) / 2) * min(7, 26 / mine.length));
		}
	}
}

function drawMap() {
	const edges = readEdges().filter(it => matches([it.from, it.to].map(id => `${id} ${containers.get(id)?.text}`).join()));
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
		for (const id of fresh) nodes.set(id, { id, layer: 0, height: 36, in: [], out: [], left: [], right: [] });
		return true;
	});
	nodes.forEach((_, id) => left.delete(id));
	more.hidden = !left.size;
	say(more.firstChild, `The busiest ${nodes.size} of them, and ${left.size} more.`);
	say($('map-n'), chosen.length ? `${nodes.size} nodes, ${chosen.length} connections` : 'no outbound TCP connections of containers');
	const box = $('map-box');
	if (!chosen.length) return box.replaceChildren();
	layer(nodes, chosen);
	const { list, height } = columns(nodes, chosen);
	const narrow = box.clientWidth < 640;
	const width = narrow ? 132 : 200;
	const room = box.clientWidth - 34;
	const gap = max(narrow ? 104 : 140, min(300, (room - list.length * width) / max(1, list.length - 1)));
	const x = column => column * (width + gap) + 2;
	ports(nodes.values(), chosen);
	const head = (id, name) => svg('marker', { id, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: 'userSpaceOnUse', orient: 'auto-start-reverse' },
		svg('path', { d: 'M0 0l8 4-8 4z', class: name }));
	const drawn = svg('svg', {
		width: x(list.length - 1) + width + 2, height, role: 'img',
		'aria-label': `Service map. ${nodes.size} containers and destinations, ${chosen.length} connections between them. The table below says the same in words.`,
	}, svg('defs', {}, head('arrow', 'tip'), head('arrow-bad', 'tip bad')));
	const labels = [];
	for (const edge of chosen) drawn.append(drawEdge(edge, x, width, narrow, labels));
	for (const node of nodes.values()) drawn.append(drawBox(node, x(node.layer), width));
	const taken = [...nodes.values()].map(({ layer, y }) => ({ x: x(layer) + width / 2, y, w: width, h: 36 }));
	for (const label of labels) drawLabel(label, taken, drawn);
	box.replaceChildren(drawn);
}

function drawEdge(edge, x, width, narrow, labels) {
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
	const isUsed = edge.rate > 0.001;
	const fails = edge.failed > 0.001 || !edge.total;
	const isBad = fails && edge.failed >= edge.rate;
	const thick = min(12, 1.2 + 1.6 * Math.log10(1 + 4 * (edge.rate + edge.failed)));
	const tip = `url(#${fails ? 'arrow-bad' : 'arrow'})`;
	const line = (name, rest) => svg('path', { d: path, class: name, [back ? 'marker-start' : 'marker-end']: tip, ...rest });
	const group = svg('g', {}, line(isBad ? 'edge bad' : isUsed || edge.active ? 'edge' : 'edge idle', { 'stroke-width': thick.toFixed(1) }));
	if (fails && !isBad) group.append(line('edge bad', { 'stroke-width': 2.5, 'stroke-dasharray': '5 7' }));
	const words = [isUsed ? perSecond(edge.rate) : edge.active ? `${count(edge.active)} open` : '', edge.latency >= 0 ? time(edge.latency) : ''];
	const failed = edge.failed > 0.001 ? `${perSecond(edge.failed)} failed` : edge.refused && !edge.total ? `${count(edge.refused)} failed` : '';
	group.append(svg('title', {}, `${edge.from} to ${edge.to}: ${joined([...words, failed], ', ') || 'idle'}`));
	const lines = [...narrow ? words : [joined(words, ' · ')], failed].filter(Boolean);
	if (lines.length) labels.push({ lines, failed, spots });
	return group;
}

function drawBox(node, x, width) {
	const container = containers.get(node.id);
	return svg('g', { class: container ? 'box' : 'box outside', transform: `translate(${x} ${(node.y - 18).toFixed(1)})` },
		svg('title', {}, node.id), svg('rect', { width, height: 36, rx: 6 }),
		svg('text', { x: 10, y: 15 }, fit(container ? brief(node.id) : node.id, width - 18, '600 12px ')),
		svg('text', { x: 10, y: 29, class: 'under' }, fit(container ? container.app || container.under : 'outside', width - 18, '10.5px ')));
}

// At the first of its places where nothing is yet; if there is none, the tooltip and the table must do.
function drawLabel({ lines, failed, spots }, taken, drawn) {
	const [w, h] = [max(...lines.map(line => measure(line, '600 11px '))) + 8, lines.length * 13 + 3];
	const free = ([x, y]) => taken.every(box => abs(x - box.x) > (w + box.w) / 2 || abs(y - box.y) > (h + box.h) / 2);
	const spot = spots.find(free);
	if (!spot) return;
	const [x, y] = spot;
	taken.push({ x, y, w, h });
	const text = svg('text', { class: 'says' });
	lines.forEach((line, at) => text.append(svg('tspan', { x, y: y - h / 2 + 12 + 13 * at, class: line === failed ? 'bad' : '' }, line)));
	drawn.append(svg('rect', { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 4, class: 'plate' }), text);
}

function drawEdges(edges) {
	if (!details.open) return;
	const figures = ['Connects', 'Failed', 'Open', 'Latency', 'Sent', 'Received', 'Retransmits'];
	drawTable('edges', [['From'], ['To'], ...figures.map(title => [title, 'n'])],
		edges.slice(0, 200).map(it => [it.from, it.to, perSecond(it.rate), [perSecond(it.failed), it.failed > 0.001 ? 'n bad' : 'n'], count(it.active), time(it.latency),
			flow(it.sent), flow(it.received), perSecond(it.again)]));
}

const details = document.querySelector('details');
on(details, 'toggle', drawMap);
const more = $('map-more');
on(more.lastChild, 'click', () => {
	most *= 2;
	drawMap();
});
