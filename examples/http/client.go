// Take a token of a budget before each piece of work:   go run client.go stripe 3
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var server = strings.TrimRight(cmp.Or(os.Getenv("NEXUS_HTTP"), "http://127.0.0.1:8080"), "/")

// acquire returns when it has the tokens, or with an error that asking again does not mend.
func acquire(budget string, cost float64) error {
	body, _ := json.Marshal(map[string]any{"budget": budget, "cost": cost, "producer_id": "go"})
	for {
		request, err := http.NewRequest("POST", server+"/v1/acquire", bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("NEXUS_HTTP is not the address of a server: %w", err)
		}
		request.Header.Set("Content-Type", "application/json")
		if token := os.Getenv("NEXUS_TOKEN"); token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("the server at %s does not answer: %w", server, err)
		}
		var problem struct{ Detail string }
		_ = json.NewDecoder(answer.Body).Decode(&problem)
		answer.Body.Close()
		if answer.StatusCode == 200 {
			return nil
		} else if answer.StatusCode != 429 && answer.StatusCode != 503 {
			return fmt.Errorf("the server refused %g tokens of %s: %s: %s", cost, budget, answer.Status, problem.Detail)
		}
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // 0 if there is none
		fmt.Fprintf(os.Stderr, "%s Asking again in %d s.\n", problem.Detail, max(1, seconds))
		time.Sleep(time.Duration(max(1, seconds)) * time.Second)
	}
}

func main() {
	count := -1
	if len(os.Args) == 3 {
		if given, err := strconv.Atoi(os.Args[2]); err == nil {
			count = given
		}
	}
	if count < 0 {
		fmt.Fprintln(os.Stderr, "Give the name of a budget and the number of calls, as in: client stripe 3")
		os.Exit(2)
	}
	for i := 1; i <= count; i++ {
		if err := acquire(os.Args[1], 1); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("call", i) // the work
	}
}
