// Nested definitions with parameters and every operator of an angle.
OPENQASM 2.0;
include "qelib1.inc";
gate turn(a, b) q { rz(a + b) q; rx((a - b)/2) q; ry(-a*b) q; }
gate pair(a) q, r { turn(a, 2^2*a) q; turn(sin(a)^2, cos(a)^2) r; cu3(a, a/3, sqrt(2)) q, r; rzz(exp(-a)) q, r; }
gate layer(a, b) q, r, s { pair(a) q, r; pair(b) r, s; barrier q, r, s; pair(ln(3.0) - tan(b)) s, q; }
qreg q[3];
qreg r[3];
layer(pi/3, 0.25e0) q[0], q[1], q[2];
layer(0.5, -pi/7) r[2], r[0], q[1];
cx q, r;
cswap q[0], r[0], r[1];
c3x q[0], q[1], q[2], r[0];
rccx q[0], q[1], q[2];
