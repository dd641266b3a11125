package tine_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tine.example/tine"
)

// beKilled is a host that says who its workers are, keeps them busy, and waits for its end.
func beKilled() {
	pool, err := tine.NewPool(tine.Options{Workers: 2})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range 4 {
		misbehave.Submit(background, pool, "ignore")
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		// The family, and nobody else, has this host's environment.
		environment, _ := os.ReadFile(process + "/environ")
		if strings.Contains(string(environment), os.Getenv("TINE_GO_TEST_HOST")) {
			fmt.Println(filepath.Base(process))
		}
	}
	fmt.Println("all")
	select {}
}

func TestNobodyOutlivesTheHost(t *testing.T) {
	host := exec.Command("/proc/self/exe")
	host.Env = append(os.Environ(), fmt.Sprintf("TINE_GO_TEST_HOST=host of %d", os.Getpid()))
	out, err := host.StdoutPipe()
	must(t, err)
	must(t, host.Start())
	var family []string
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "all"; {
		family = append(family, lines.Text())
	}
	must(t, host.Process.Kill())
	host.Wait()
	if len(family) != 4 { // the host, the supervisor, two workers
		t.Errorf("a family of %q", family)
	}
	for _, pid := range family {
		for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat("/proc/" + pid); err != nil {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("process %s is still there", pid)
			}
		}
	}
}
