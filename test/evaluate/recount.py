"""The accuracy of a system, counted from verdicts.jsonl alone: python3 recount.py verdicts.jsonl SYSTEM"""
import json
import sys

path, system = sys.argv[1:]
right = total = 0
with open(path, encoding="utf-8") as lines:
    for line in lines:
        verdict = json.loads(line)
        if verdict["system"] == system and verdict["k"] == 0:
            total += 1
            right += verdict["verdict"] == "correct"
print(f"{right}/{total}")
