// Prompts as Ollama makes them of a Modelfile's TEMPLATE: Go's text/template with the values that
// Ollama's template/template.go gives it (collate, Execute). scripts/install-templates builds this.
// A line of stdin: {"template", "messages"}; of stdout: {"prompt"} or {"error"}.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type question struct {
	Template string    `json:"template"`
	Messages []message `json:"messages"`
}

// All system messages in one text; all messages, neighbours of one role joined.
func collate(given []message) (string, []*message) {
	var system []string
	var kept []*message
	for i := range given {
		each := &given[i]
		if each.Role == "system" {
			system = append(system, each.Content)
		}
		if n := len(kept); n > 0 && kept[n-1].Role == each.Role && each.Role != "tool" {
			kept[n-1].Content += "\n\n" + each.Content
		} else {
			kept = append(kept, each)
		}
	}
	return strings.Join(system, "\n\n"), kept
}

func render(line []byte) (string, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return "", err
	}
	made, err := template.New("").Option("missingkey=zero").Parse(asked.Template)
	if err != nil {
		return "", err
	}
	system, messages := collate(asked.Messages)
	var text strings.Builder
	err = made.Execute(&text, map[string]any{
		"System": system, "Messages": messages, "Tools": nil, "Response": "",
	})
	return text.String(), err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	written := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		prompt, err := render(lines.Bytes())
		if err != nil {
			written.Encode(map[string]string{"error": err.Error()})
		} else {
			written.Encode(map[string]string{"prompt": prompt})
		}
	}
}
