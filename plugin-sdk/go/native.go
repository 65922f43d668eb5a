//go:build !wasip1

package pointsman

// What the router does for a plugin, where there is none: a test may look at it.

// Line is a line that was logged.
type Line struct {
	// Level of the line.
	Level Level
	// Message of the line.
	Message string
}

var (
	logged  []Line
	counted = map[string]uint64{}
)

// TakeLogged gives what was logged since the last time. It is there natively only, for tests.
func TakeLogged() []Line {
	lines := logged
	logged = nil
	return lines
}

// TakeCounted gives what was counted since the last time. It is there natively only, for tests.
func TakeCounted() map[string]uint64 {
	counts := counted
	counted = map[string]uint64{}
	return counts
}

func hostLog(level Level, message string) { logged = append(logged, Line{level, message}) }

func hostCount(name string, increment uint64) { counted[name] += increment }
